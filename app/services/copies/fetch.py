"""Fetch a copy back into the folder of the dumps, checked like a new dump."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import select, update

from app.encryption import Identity
from app.errors import Conflict, StorageFull
from app.extensions import db, writing
from app.models import Copy, DatabaseBackup
from app.services.audit.acting import acting, tell
from app.services.backups.listing import has_row
from app.services.backups.recovery import adopt
from app.services.copies.marked import MarkedCopy, find_marked
from app.services.databases.configured import storage
from app.storages import Staged

logger = logging.getLogger(__name__)


@acting
def fetch_copy(
    copy_id: str,
    *,
    by: str,
    identities: Sequence[Identity] = (),
    on_block: Callable[[int], None] = lambda _: None,
) -> str:
    """Bring a copy back as the dump of its backup, which gets a row if it has none.

    `on_block` gets the size of each block that is written. Raises NotFound, Conflict if the
    dump is here, InvalidInput without an identity that fits, VerificationError, StorageError.
    """
    filename = db.session.get_one(Copy, copy_id).filename
    db.session.commit()
    if storage().has(filename):
        raise Conflict(f"the dump {filename} is here already")
    copy = find_marked(copy_id, identities)
    _publish(copy, on_block)
    _give_row(filename)
    tell(subject=filename, detail=f"from {copy.store}")
    logger.info("copy fetched filename=%s store=%r by=%r", filename, copy.store, by)
    return filename


def _publish(copy: MarkedCopy, on_block: Callable[[int], None]) -> None:
    filename, size, manifest = copy.mark.filename, copy.mark.dump.size, copy.manifest()
    if size > (free := storage().free_space()):
        raise StorageFull(
            f"{filename} does not fit here",
            detail=f"It has {size} bytes, and {free} are free.",
            hint="Free some space, or set BACKSTOP_BACKUP_DIR to another disk.",
        )
    staged = storage().stage(filename)
    try:
        _write(staged, copy.dump(), on_block)
        storage().remove_lone_manifest(staged)
        storage().publish(staged, manifest)
    finally:
        storage().discard(staged)


def _write(staged: Staged, chunks: Iterator[bytes], on_block: Callable[[int], None]) -> None:
    with os.fdopen(os.dup(staged.descriptor), "wb") as file:
        for chunk in chunks:
            file.write(chunk)
            on_block(len(chunk))


def _give_row(filename: str) -> None:
    """Create the row of a backup that has none, and let its copies refer to it."""
    if not has_row(filename):
        adopt(filename)
    its_id = select(DatabaseBackup.id).where(DatabaseBackup.filename == filename)
    of_backup = update(Copy).where(Copy.filename == filename)
    with writing() as session:
        session.execute(of_backup.values(backup_id=its_id.scalar_subquery()))
