"""A copy as the catalogue knows it, with the mark beside it that agrees."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Select, select

from app.encryption import Identity
from app.errors import Conflict, VerificationError
from app.extensions import db, writing
from app.models import Copy, Store
from app.models.types import now
from app.services.backups.manifests import facts_in, read_manifest
from app.services.copies.mark import (
    Mark,
    Measured,
    read_mark,
    refuse_without_identity,
)
from app.services.copies.transfer import in_own_thread, plain
from app.services.stores.credentials import opened
from app.services.stores.keys import drill_identities
from app.stores import Store as OpenStore


@dataclass(frozen=True)
class MarkedCopy:
    """A copy whose dump can be read, if one of the identities fits."""

    store: str  # its name
    target: OpenStore
    mark: Mark
    identities: Sequence[Identity] = field(repr=False)

    @property
    def what(self) -> str:
        """What it is, for errors."""
        return f"the copy of {self.mark.filename} in {self.store}"

    @property
    def is_readable(self) -> bool:
        """Whether it is not encrypted, or there is an identity to try."""
        return not self.mark.is_encrypted or bool(self.identities)

    def manifest(self) -> bytes:
        """The manifest of its backup.

        Raises InvalidInput without an identity that fits, VerificationError if it describes
        another dump.
        """
        refuse_without_identity(self.mark, self.identities)
        manifest = self.mark.manifest_of_backup(self.identities)
        facts = facts_in(read_manifest(manifest))
        described = (facts.filename, Measured(facts.size, facts.sha256))
        if described != (self.mark.filename, self.mark.dump):
            raise VerificationError(f"the manifest of {self.what} contradicts itself")
        return manifest

    def dump(self) -> Iterator[bytes]:
        """The dump, decrypted.

        Raises InvalidInput without an identity that fits, ObjectMissing, StorageError, and
        VerificationError at its end at the latest.
        """
        refuse_without_identity(self.mark, self.identities)
        return in_own_thread(plain(self.target, self.mark, self.identities, self.what))


def good_copies(filename: str) -> Select[Copy]:
    """The good copies of a backup, those that were verified last first."""
    good = select(Copy).where(Copy.filename == filename, Copy.good())
    return good.order_by(Copy.verified_at.desc().nulls_last())


def find_marked(copy_id: str, identities: Sequence[Identity] = ()) -> MarkedCopy:
    """A copy with its mark; the drill key of its store is tried besides these identities.

    No transaction stays open. Raises ObjectMissing without a mark, VerificationError where it
    was changed, StorageError.
    """
    copy = db.session.get_one(Copy, copy_id)
    store = db.session.get_one(Store, copy.store_id)
    filename, known = copy.filename, Measured(copy.size, copy.sha256)
    name, target = store.name, opened(store)
    usable = (*identities, *drill_identities(store))
    db.session.commit()
    mark = read_mark(target, filename)
    if mark.stored != known and not adopt_replacement(copy_id, mark):
        raise VerificationError(f"the manifest of the copy of {filename} was changed")
    return MarkedCopy(name, target, mark, usable)


def announce_replacement(copy_id: str, old: Mark, new: Mark, recipients: list[str]) -> None:
    """Remember that a new mark is about to replace that of a copy.

    Raises Conflict where the copy is no longer as its old mark says.
    """
    with writing() as session:
        copy = session.get(Copy, copy_id, with_for_update=True, populate_existing=True)
        if copy is None or not copy.is_good or copy.sha256 != old.stored.sha256:
            raise Conflict(f"the copy of {old.filename} was changed meanwhile")
        copy.replacement = _facts(new) | {"recipients": recipients}


def adopt_replacement(copy_id: str, mark: Mark) -> bool:
    """Let a copy be what its new mark says, if that was announced; returns whether it was."""
    with writing() as session:
        copy = session.get(Copy, copy_id, with_for_update=True, populate_existing=True)
        if copy is None or copy.replacement is None:
            return False
        recipients = copy.replacement["recipients"]
        if copy.replacement != _facts(mark) | {"recipients": recipients}:
            return False
        copy.key, copy.size, copy.sha256 = mark.key, mark.stored.size, mark.stored.sha256
        copy.is_encrypted, copy.recipients, copy.replacement = True, recipients, None
        copy.verified_at, copy.locked_until = now(), None
    return True


def _facts(mark: Mark) -> dict[str, object]:
    return {"key": mark.key, "size": mark.stored.size, "sha256": mark.stored.sha256}
