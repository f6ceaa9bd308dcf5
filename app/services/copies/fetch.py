"""Fetch a copy back into the folder of the dumps, checked like a new dump."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import select, update

from app.encryption import Identity
from app.errors import Conflict, StorageFull, VerificationError
from app.extensions import db, writing
from app.models import Copy, DatabaseBackup, Store
from app.services.audit.acting import acting, tell
from app.services.backups.listing import has_row
from app.services.backups.manifests import facts_in, read_manifest
from app.services.backups.recovery import adopt
from app.services.copies.mark import (
    Mark,
    Measured,
    read_mark,
    refuse_changed,
    refuse_without_identity,
)
from app.services.copies.transfer import plain
from app.services.databases.configured import storage
from app.services.stores.credentials import opened
from app.storages import Staged
from app.stores import Store as OpenStore

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
    copy = db.session.get_one(Copy, copy_id)
    store = db.session.get_one(Store, copy.store_id)
    filename, known = copy.filename, Measured(copy.size, copy.sha256)
    db.session.commit()
    if storage().has(filename):
        raise Conflict(f"the dump {filename} is here already")
    target = opened(store)
    mark = read_mark(target, filename)
    refuse_changed(mark, known)
    fetch_marked(target, mark, identities, on_block)
    _give_row(filename)
    tell(subject=filename, detail=f"from {store.name}")
    logger.info("copy fetched filename=%s store=%r by=%r", filename, store.name, by)
    return filename


def fetch_marked(
    target: OpenStore,
    mark: Mark,
    identities: Sequence[Identity],
    on_block: Callable[[int], None],
) -> None:
    """Publish what a mark describes. Raises as `fetch_copy`."""
    refuse_without_identity(mark, identities)
    manifest = mark.manifest_of_backup(identities)
    facts = facts_in(read_manifest(manifest))
    if Measured(facts.size, facts.sha256) != mark.dump or facts.filename != mark.filename:
        raise VerificationError(f"the manifest of the copy of {mark.filename} contradicts itself")
    if mark.dump.size > (free := storage().free_space()):
        raise StorageFull(
            f"{mark.filename} does not fit here",
            detail=f"It has {mark.dump.size} bytes, and {free} are free.",
            hint="Free some space, or set BACKSTOP_BACKUP_DIR to another disk.",
        )
    staged = storage().stage(mark.filename)
    try:
        what = f"the copy of {mark.filename}"
        _write(staged, plain(target, mark, identities, what), on_block)
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
