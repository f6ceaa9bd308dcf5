"""What a copy is made from: the dump here, or else a good copy of it in another store."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, or_
from sqlalchemy.orm import aliased

from app.errors import AppError, ObjectMissing
from app.extensions import db
from app.models import Copy, DatabaseBackup
from app.services.copies.mark import Measured
from app.services.copies.marked import find_marked, good_copies
from app.services.copies.transfer import blocks_of
from app.services.databases.configured import storage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A dump, which can be read once."""

    dump: Measured
    manifest: bytes
    blocks: Iterable[bytes]
    what: str  # it is, for errors and the log


@contextmanager
def open_source(copy: Copy, backup: DatabaseBackup | None) -> Iterator[Source]:
    """The dump that a copy is to be made from.

    Raises ObjectMissing if neither the dump nor another copy of it can be read.
    """
    name = copy.filename
    if backup is None or not storage().has(name):
        yield _elsewhere(copy, backup)
        return
    with storage().open(name) as file:
        dump, manifest = Measured(backup.size, backup.sha256), storage().manifest(name)
        yield Source(dump, manifest, blocks_of(file), f"the dump {name}")


def has_source() -> ColumnElement[bool]:
    """In a query of copies: whether there may be anything to make them from."""
    other = aliased(Copy)
    is_elsewhere = exists().where(
        other.filename == Copy.filename, other.id != Copy.id, other.good()
    )
    return or_(Copy.backup_id.is_not(None), is_elsewhere)


def _elsewhere(copy: Copy, backup: DatabaseBackup | None) -> Source:
    others = good_copies(copy.filename).where(Copy.id != copy.id)
    ids = [other.id for other in db.session.scalars(others)]
    db.session.commit()
    for other_id in ids:
        try:
            other = find_marked(other_id)
            manifest, dump = other.manifest(), other.mark.dump
        except AppError as error:
            logger.warning("copy not used copy=%s error=%r", other_id, error.message)
            continue
        if backup is None or dump == Measured(backup.size, backup.sha256):
            return Source(dump, manifest, other.dump(), other.what)
    raise ObjectMissing(
        f"the dump {copy.filename} is not here, and no copy of it can be read",
        detail="Encrypted copies can be read with a private key alone.",
        hint=f"In a terminal: flask copy fetch {copy.filename} --identity FILE",
    )
