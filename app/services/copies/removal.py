"""Remove a copy from its store, and remember that nobody wants it there."""

import logging
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import delete, select

from app.errors import AppError, Conflict, NotFound, ObjectLocked, ObjectMissing, StorageError
from app.extensions import db, writing
from app.models import Copy, Store
from app.models.types import now
from app.services.copies.mark import mark_key
from app.services.stores.credentials import opened
from app.stores import Store as OpenStore

logger = logging.getLogger(__name__)

_FORGOTTEN = timedelta(minutes=10)  # no store takes as long to remove an object


def take_away(copy_id: str, refuse: Callable[[Copy], None] = lambda _: None) -> tuple[str, str]:
    """Remove a copy, unless `refuse` raises; returns its filename and the name of its store.

    It does not count from the beginning, and its mark goes first, so that it never counts half.
    Raises NotFound, Conflict while it is made, StorageError; with ObjectLocked it is still
    there, and counts.
    """
    with writing() as session:
        copy = session.get(Copy, copy_id, with_for_update=True, populate_existing=True)
        if copy is None or copy.removed_at is not None:
            raise NotFound("no copy has this id", hint="flask copy list shows all.")
        if copy.is_pending:
            raise Conflict("the copy is being made", hint="Cancel it first.")
        refuse(copy)
        copy.removing_since = now()
        filename, key, store_id = copy.filename, copy.key or copy.filename, copy.store_id
    store = db.session.get_one(Store, store_id)
    name, target = store.name, opened(store)
    db.session.commit()
    try:
        _take_mark_and_object(copy_id, target, filename, key)
    except StorageError:
        if _is_marked(target, filename):  # so it counts
            _end_removal(copy_id)
        raise
    logger.info("copy removed filename=%s store=%r", filename, name)
    return filename, name


def finish_removals() -> None:
    """Remove the copies whose removal was begun a while ago, by a process that is gone."""
    begun = select(Copy.id).where(Copy.removing_since < now() - _FORGOTTEN)
    copy_ids = list(db.session.scalars(begun))
    db.session.commit()
    for copy_id in copy_ids:
        try:
            take_away(copy_id)
        except AppError as error:
            logger.warning("copy not removed copy=%s error=%r", copy_id, error.message)


def forget_removed() -> None:
    """Forget the copies that were removed, once their backups are gone as well."""
    gone = delete(Copy).where(Copy.removed_at.is_not(None), Copy.backup_id.is_(None))
    with writing() as session:
        session.execute(gone)


def _take_mark_and_object(copy_id: str, target: OpenStore, filename: str, key: str) -> None:
    try:
        mark = b"".join(target.read(mark_key(filename)))
    except ObjectMissing:
        mark = b""
    target.delete(mark_key(filename))
    try:
        target.delete(key)
    except ObjectLocked:
        if mark:  # what stays counts
            target.put_new(mark_key(filename), mark)
        raise
    except StorageError:
        _record(copy_id)  # without its mark it does not count, and it is tidied up later
        raise
    _record(copy_id)


def _is_marked(target: OpenStore, filename: str) -> bool:
    """Whether the mark of a copy is there, as far as the store can be asked."""
    try:
        return target.size(mark_key(filename)) is not None
    except StorageError:
        return False


def _end_removal(copy_id: str) -> None:
    with writing() as session:
        row = session.get(Copy, copy_id)
        if row is not None:
            row.removing_since = None


def _record(copy_id: str) -> None:
    with writing() as session:
        row = session.get(Copy, copy_id)
        if row is not None and row.backup_id is None:
            session.delete(row)
        elif row is not None:
            row.remove(now())
