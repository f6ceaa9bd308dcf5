"""Remove from the stores what killed uploads have left."""

import logging
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import select

from app.errors import AppError, ObjectMissing, VerificationError
from app.extensions import db
from app.models import Copy, Status, Store
from app.models.types import now
from app.services.copies.mark import filename_in, mark_key, read_mark
from app.services.stores.credentials import opened
from app.services.stores.ownership import find_owner
from app.storages.local import NAME
from app.stores import Store as OpenStore

logger = logging.getLogger(__name__)

#: No upload takes as long: one that runs is never disturbed.
LEFT_FOR = timedelta(days=8)


def tidy_stores() -> None:
    """Remove unfinished uploads and objects without a mark from all stores that are ours.

    A store that cannot be asked is left for the next time.
    """
    stores = list(db.session.scalars(select(Store).where(Store.is_paused.is_(False))))
    for store in stores:
        db.session.expunge(store)
    db.session.commit()
    for store in stores:
        try:
            removed = tidy_store(store)
        except AppError as error:
            logger.warning("store not tidied store=%r error=%r", store.name, error.message)
        else:
            if removed:
                logger.info("store tidied store=%r removed=%d", store.name, removed)


def tidy_store(store: Store, *, left_for: timedelta = LEFT_FOR) -> int:
    """Remove what was left for so long in one store; returns how many things.

    An object of another name than ours is never removed, nor anything in a store that is
    another panel's. Raises StorageError.
    """
    target = opened(store)
    owner = find_owner(target)
    if owner is None or not owner.is_us:
        return 0
    lone = [key for key in _lone(target, left_for) if not _is_being_made(store, key)]
    for key in lone:
        target.delete(key)
    return target.remove_unfinished(left_for) + len(lone)


def _lone(target: OpenStore, left_for: timedelta) -> Iterator[str]:
    """Our old objects that no mark names.

    One listing tells which they may be; to ask for each mark would be a request for each copy.
    """
    latest, old, marks = now() - left_for, defaultdict[str, list[str]](list), set()
    for item in target.list("backup_"):
        filename = filename_in(item.key)
        if NAME.fullmatch(filename) and item.modified <= latest:
            old[filename].append(item.key)
        elif item.key.endswith(".json"):
            marks.add(item.key)
    for filename, keys in old.items():
        if mark_key(filename) not in marks and target.size(mark_key(filename)) is None:
            yield from keys
        elif len(keys) > 1:  # it was encrypted anew
            yield from _unnamed(target, filename, keys)


def _unnamed(target: OpenStore, filename: str, keys: list[str]) -> list[str]:
    """The objects that the mark does not name; none if it cannot be believed."""
    try:
        named = read_mark(target, filename).key
    except (ObjectMissing, VerificationError) as error:
        logger.warning("objects kept filename=%s error=%r", filename, error.message)
        return []
    return [key for key in keys if key != named]


def _is_being_made(store: Store, key: str) -> bool:
    pending = select(Copy.id).where(
        Copy.store_id == store.id,
        Copy.filename == filename_in(key),
        Copy.status == Status.PENDING,
    )
    is_pending = db.session.scalar(pending) is not None
    db.session.commit()
    return is_pending
