"""Copies of backups, for the page, the API and the terminal."""

import logging
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import select

from app.errors import AppError, Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.logs import errors_logged
from app.models import Copy, DatabaseBackup, Store, Trigger
from app.queue import FAILURES, copies_queue
from app.services.audit.acting import acting, tell
from app.services.backups.listing import get_backup
from app.services.copies.fetch import fetch_copy
from app.services.copies.marked import good_copies
from app.services.copies.queue import new_copy, wake_worker
from app.services.copies.removal import take_away
from app.services.copies.verify import verify_copy
from app.services.databases.configured import storage
from app.services.jobs.progress import wait_for_end
from app.services.jobs.settling import settle_dead_jobs
from app.services.stores.lookup import get_store

logger = logging.getLogger(__name__)

MAX_LIMIT = 500


def list_copies(*, filename: str = "", store: str = "", limit: int = 100) -> list[Copy]:
    """The newest copies of a backup, in a store, or all. Raises InvalidInput, NotFound."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}")
    chosen = select(Copy).where(Copy.removed_at.is_(None))
    chosen = chosen.order_by(Copy.dumped_at.desc(), Copy.id).limit(limit)
    if filename:
        chosen = chosen.where(Copy.filename == filename)
    if store:
        chosen = chosen.where(Copy.store_id == get_store(store).id)
    return list(db.session.scalars(chosen))


def names_of_stores() -> dict[str, str]:
    """The name of each store by its id."""
    rows = db.session.execute(select(Store.id, Store.name))
    return {row.id: row.name for row in rows}


def get_copy(copy_id: str) -> Copy:
    """The copy with this id. Raises NotFound."""
    copy = db.session.get(Copy, copy_id, populate_existing=True)
    if copy is None or copy.removed_at is not None:
        raise NotFound("no copy has this id", hint="flask copy list shows all.")
    return copy


def get_copy_in(filename: str, store: str) -> Copy:
    """The copy of a backup in a store, whatever its state. Raises NotFound."""
    chosen = select(Copy).where(Copy.filename == filename, Copy.store_id == get_store(store).id)
    copy = db.session.scalar(chosen.where(Copy.removed_at.is_(None)))
    if copy is None:
        raise NotFound(f"{store} has no copy of {filename}")
    return copy


def completed(copy_id: str) -> Copy:
    """The copy with this id. Raises AppError with the reason if it is not complete."""
    copy = get_copy(copy_id)
    if not copy.is_completed:
        raise AppError(
            copy.error_message or "the copy is being made by another process",
            detail=copy.error_detail,
            hint=copy.error_hint,
        )
    return copy


def is_only(copy: Copy) -> bool:
    """Whether neither the dump nor another good copy of it is known."""
    others = good_copies(copy.filename).where(Copy.id != copy.id)
    return not storage().has(copy.filename) and db.session.scalar(others.limit(1)) is None


def find_copy(filename: str, store: str = "") -> Copy:
    """The good copy of a backup, in this store or any, the one verified last. Raises NotFound."""
    chosen = good_copies(filename)
    if store:
        chosen = chosen.where(Copy.store_id == get_store(store).id)
    copy = db.session.scalar(chosen.limit(1))
    if copy is None:
        raise NotFound(f"there is no good copy of {filename}", hint="flask copy list shows all.")
    return copy


@acting
def copy_backup(filename: str, store: str, *, trigger: Trigger, by: str) -> Copy:
    """Queue a copy of a backup to a store. Raises as `insert_copy`."""
    copy = insert_copy(filename, store, trigger=trigger, by=by)
    wake_worker(copy.id)
    return get_copy(copy.id)


@acting
def wanted_copy(filename: str, store: str, *, trigger: Trigger, by: str) -> Copy:
    """The copy of a backup in a store, which is good or to be made. Raises as `insert_copy`."""
    with suppress(NotFound):
        copy = get_copy_in(filename, store)
        if copy.is_pending or copy.is_good:
            return copy
    return insert_copy(filename, store, trigger=trigger, by=by)


@acting
def insert_copy(filename: str, store: str, *, trigger: Trigger, by: str) -> Copy:
    """The row of a copy that is to be made, also of one that failed or was lost.

    Raises NotFound, and Conflict if it is there or under way, or there is nothing to copy.
    """
    backup, target = get_backup(filename), get_store(store)
    has_dump = storage().has(filename) or places_of([backup])[filename]
    if not backup.is_completed or not has_dump:
        raise Conflict(f"neither the dump {filename} nor a copy of it is there")
    if target.is_paused:
        raise Conflict(f"{target.name} is paused", hint=f"flask store resume {target.name}")
    with writing() as session:
        chosen = select(Copy).where(Copy.store_id == target.id, Copy.filename == filename)
        copy = session.scalar(chosen.with_for_update())
        if copy is None:
            copy = new_copy(backup, target, trigger=trigger, by=by)
            session.add(copy)
        elif copy.is_pending:
            raise Conflict(f"{filename} is being copied to {target.name} already")
        elif copy.is_good:
            raise Conflict(f"{filename} is in {target.name} already")
        else:
            copy.wait_again()
            copy.backup_id, copy.trigger, copy.created_by = backup.id, trigger, by[:255]
            copy.attempts, copy.removed_at = 0, None
        session.flush()
        copy_id = copy.id
    tell(subject=filename, detail=f"to {target.name}")
    return get_copy(copy_id)


@acting
def cancel_copy(copy_id: str, *, by: str) -> None:
    """Cancel a pending copy, which is not tried again. Raises NotFound, Conflict if it ended."""
    with errors_logged("settling dead jobs"):
        settle_dead_jobs()
    with writing() as session:
        copy = session.get(Copy, copy_id, with_for_update=True)
        if copy is None:
            raise NotFound("no copy has this id", hint="flask copy list shows all.")
        if not copy.is_pending:
            raise Conflict("the copy has ended already")
        copy.cancel(by)
        copy.next_attempt_at = None
        filename = copy.filename
    tell(subject=filename)


@acting
def remove_copy(copy_id: str, *, by: str) -> None:
    """Remove a copy from its store, which gets it again only if somebody asks for that.

    Raises NotFound, Conflict while it is made, StorageError, also where it is locked.
    """
    filename, store = take_away(copy_id)
    tell(subject=filename, detail=f"from {store}")
    logger.info("copy not wanted filename=%s store=%r by=%r", filename, store, by)


@acting
def queue_verification(copy_id: str, *, by: str) -> None:
    """Have a worker read a copy back. Raises NotFound, and Conflict if it is not complete."""
    copy = get_copy(copy_id)
    if not copy.is_completed:
        raise Conflict("there is no copy to verify yet")
    tell(subject=copy.filename)
    logger.info("verification queued filename=%s by=%r", copy.filename, by)
    _queue(run_verification, copy_id)


@acting
def queue_fetch(copy_id: str, *, by: str) -> None:
    """Have a worker bring a copy back. Raises NotFound, and Conflict as `fetch_copy`."""
    copy = get_copy(copy_id)
    if not copy.is_completed:
        raise Conflict("there is no copy to fetch yet")
    if storage().has(copy.filename):
        raise Conflict(f"the dump {copy.filename} is here already")
    if copy.is_encrypted and not db.session.get_one(Store, copy.store_id).drill_key:
        raise InvalidInput(
            "the copy is encrypted, and the panel has no key",
            hint=f"In a terminal: flask copy fetch {copy.filename} --identity FILE",
        )
    tell(subject=copy.filename)
    _queue(run_fetch, copy_id, by)


@copies_queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_verification(copy_id: str) -> None:
    """Read a copy back; what prevents that is kept with the copy."""
    try:
        verify_copy(copy_id)
    except AppError as error:
        _keep(copy_id, error)


@copies_queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_fetch(copy_id: str, by: str) -> None:
    """Bring a copy back; what prevents that is kept with the copy."""
    try:
        fetch_copy(copy_id, by=by)
    except AppError as error:
        _keep(copy_id, error)


def wait_for_copy(copy_id: str, seconds: float) -> Copy:
    """The copy as soon as it has ended, or as it is after so many seconds. Raises NotFound."""
    return wait_for_end(lambda: get_copy(copy_id), seconds)


def _keep(copy_id: str, error: AppError) -> None:
    with writing() as session:
        copy = session.get(Copy, copy_id)
        if copy is not None:
            copy.error_message, copy.error_detail = error.message, error.detail
            copy.error_hint = error.hint
    logger.warning("copy not read copy=%s error=%r", copy_id, error.message)


def _queue(task: object, *arguments: str) -> None:
    try:
        task(*arguments)  # type: ignore[operator]
    except FAILURES as error:
        raise Conflict("no worker can be told", detail=f"{error}.") from error


def places_of(backups: Sequence[DatabaseBackup]) -> dict[str, int]:
    """In how many stores each of these backups has a good copy, by its filename."""
    names = [backup.filename for backup in backups]
    good = select(Copy.filename).where(Copy.filename.in_(names), Copy.good())
    counted = dict.fromkeys(names, 0)
    for name in db.session.scalars(good):
        counted[name] += 1
    return counted
