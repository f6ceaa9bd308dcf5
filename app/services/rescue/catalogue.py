"""The catalogue back from its newest good export, into a panel that has nothing of its own."""

import heapq
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Select, exists, func, or_, select

from app.encryption import Identity
from app.errors import AppError, ConfigurationError, Conflict, InvalidInput, ObjectMissing
from app.extensions import Model, db
from app.models import Admin, AuditEntry, Database, Panel, Schedule
from app.services.audit.acting import acting, tell
from app.services.catalogue.files import checked_revision, private_file
from app.services.catalogue.portable import replace_catalogue
from app.services.catalogue.state import find_revisions
from app.services.copies.mark import Mark, read_mark, refuse_without_identity
from app.services.copies.transfer import plain
from app.services.rescue.exports import KEPT
from app.services.rescue.marks import FOLDER, LARGEST_MARK, is_signed, marked, moment_in
from app.stores import Store

logger = logging.getLogger(__name__)

_ACTION = "recover"  # in the audit
#: Tables that fill by themselves.
_BY_ITSELF = (Database.__tablename__, Panel.__tablename__)


@dataclass(frozen=True)
class Export:
    """An export of a catalogue in a store."""

    mark: Mark
    is_signed: bool  # with our SECRET_KEY

    @property
    def moment(self) -> str:
        return moment_in(self.mark.filename)


@dataclass(frozen=True)
class Restored:
    """What a restored catalogue has."""

    admins: int
    schedules: int
    audit_entries: int


def has_own_rows() -> bool:
    """Whether this panel has anything of its own, but for attempts to recover it."""
    found = bool(db.session.scalar(_own_rows()))
    db.session.commit()
    return found


def find_exports(store: Store) -> list[str]:
    """The names of the newest exports in a store, newest first. Raises StorageError."""
    return heapq.nlargest(KEPT, marked(store.list(FOLDER)), key=moment_in)


def read_export(store: Store, filename: str, identities: Sequence[Identity]) -> Export:
    """What the mark of an export says.

    Raises ObjectMissing, VerificationError, StorageError, InvalidInput without an identity
    that fits.
    """
    mark = read_mark(store, filename, largest=LARGEST_MARK)
    if store.size(mark.key) != mark.stored.size:
        raise ObjectMissing(f"the export {mark.filename} is not whole")
    try:
        refuse_without_identity(mark, identities)
        return Export(mark, is_signed(mark, identities))
    except InvalidInput as error:
        raise InvalidInput(
            "the exported catalogue is encrypted, and no private key fits",
            hint="Give that of one of its recipients, --identity FILE; or rebuild the list of"
            " copies alone: --no-catalogue.",
        ) from error


@acting
def restore_catalogue(
    store: Store,
    export: Export,
    identities: Sequence[Identity],
    say: Callable[[str], None],
) -> Restored:
    """Let an export be the catalogue of this panel, upgraded to this version.

    Nobody else may use the catalogue meanwhile. `say` gets the lines of an upgrade. Raises
    Conflict where it has rows of its own, VerificationError, StorageError, InvalidInput
    without an identity that fits, ConfigurationError for one of a newer Backstop.
    """
    if has_own_rows():
        raise Conflict("the catalogue has rows of its own")
    try:
        with private_file() as partial:
            _write(partial, plain(store, export.mark, identities, "the export"))
            _refuse_newer(checked_revision(partial))
            replace_catalogue(partial, say, _refuse_own_rows)
    except OSError as error:
        raise AppError("the catalogue cannot be written", detail=f"{error}.") from error
    tell(detail=f"catalogue of {export.moment}")
    logger.info("catalogue restored from=%s signed=%s", export.mark.key, export.is_signed)
    return Restored(*(_count(model) for model in (Admin, Schedule, AuditEntry)))


def _own_rows() -> Select[bool]:
    tables = [
        exists().select_from(table)
        for name, table in Model.metadata.tables.items()
        if name not in (*_BY_ITSELF, AuditEntry.__tablename__)
    ]
    return select(or_(exists().where(AuditEntry.action != _ACTION), *tables))


def _refuse_own_rows(connection: Connection) -> None:
    if connection.scalar(_own_rows()):
        raise Conflict("the catalogue has rows of its own")


def _refuse_newer(revision: str) -> None:
    if revision not in find_revisions()[1]:
        raise ConfigurationError(
            "the exported catalogue is of a newer Backstop",
            detail=f"It has revision {revision[:32]!r}.",
            hint="Install the version that the lost panel ran, and recover with that.",
        )


def _write(partial: Path, chunks: Iterator[bytes]) -> None:
    with partial.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)


def _count(model: type[Model]) -> int:
    return db.session.scalar(select(func.count()).select_from(model)) or 0
