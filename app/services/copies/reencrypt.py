"""Encrypt copies to the recipients that their store has now.

The new object appears beside the old one and is read back before the mark names it; only then
the old one is removed. Killed at any moment, one of them is whole and marked.
"""

import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import select

from app.encryption import Identity
from app.errors import Conflict, InvalidInput, StorageError
from app.extensions import db
from app.models import Copy, Store
from app.services.audit.acting import acting, tell
from app.services.copies.mark import Mark, mark_key
from app.services.copies.marked import adopt_replacement, announce_replacement, find_marked
from app.services.copies.service import get_copy
from app.services.copies.transfer import OnBlock, Outgoing, read_back, reported, upload
from app.services.stores.lookup import get_store
from app.stores import Store as OpenStore

logger = logging.getLogger(__name__)


def list_outdated(store_name: str, filename: str = "") -> list[Copy]:
    """The good copies in a store that are encrypted to others than its recipients, newest first.

    With a filename, only the copy of that backup. Raises NotFound, and InvalidInput if the
    store has no recipients.
    """
    store = get_store(store_name)
    if not store.recipients:
        raise InvalidInput(
            f"copies in {store_name} are not encrypted",
            hint=f"Make a key first: flask store recovery-key {store_name}",
        )
    wanted = sorted(store.recipients)
    good = select(Copy).where(Copy.store_id == store.id, Copy.good())
    if filename:
        good = good.where(Copy.filename == filename)
    copies = db.session.scalars(good.order_by(Copy.dumped_at.desc()))
    return [copy for copy in copies if copy.recipients != wanted]


@acting
def reencrypt_copy(
    copy_id: str,
    *,
    by: str,
    identities: Sequence[Identity] = (),
    on_block: OnBlock = lambda _: None,
) -> bool:
    """Encrypt a copy anew; returns whether the old object could be removed.

    `on_block` gets the size of each block that is uploaded or read back, in bytes; what it
    raises comes out. Raises InvalidInput without an identity that fits, Conflict where the
    copy was changed meanwhile, ObjectMissing, VerificationError, StorageError.
    """
    copy = find_marked(copy_id, identities)
    store = db.session.get_one(Store, get_copy(copy_id).store_id)
    db.session.expunge(store)
    db.session.commit()
    old, target = copy.mark, copy.target
    token = secrets.token_hex(4)  # two at once are in each other's way nowhere
    blocks = reported(copy.dump(), on_block)
    dump = Outgoing(old.filename, blocks, old.dump, copy.manifest(), copy.what, token)
    new = upload(target, store, dump, lambda: on_block(0))
    try:
        read_back(target, new, copy.what, on_block)
        announce_replacement(copy_id, old, new, sorted(store.recipients))
    except BaseException:
        with suppress(StorageError):  # it is tidied up later
            target.delete(new.key)
        raise
    target.put(mark_key(old.filename), [new.written()])
    if not adopt_replacement(copy_id, new):  # it was removed meanwhile
        for key in (mark_key(old.filename), new.key):
            target.delete(key)
        raise Conflict(f"the copy of {old.filename} was removed meanwhile")
    tell(subject=old.filename, detail=f"in {store.name}")
    logger.info("copy encrypted anew filename=%s store=%r by=%r", old.filename, store.name, by)
    return _remove_old(target, old)


def _remove_old(target: OpenStore, old: Mark) -> bool:
    try:
        target.delete(old.key)
    except StorageError as error:  # it no longer counts, and is tidied up later
        logger.warning("old copy not removed key=%s error=%r", old.key, error.message)
        return False
    return True
