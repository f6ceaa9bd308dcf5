"""Which copies are wanted, and which of them wait for a worker."""

import logging
from datetime import timedelta

from sqlalchemy import ColumnElement, Select, exists, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute

from app.errors import Interrupted
from app.extensions import ask, db, writing
from app.models import Copy, DatabaseBackup, Status, Store, StoreDatabase, Trigger
from app.models.types import now
from app.queue import copies_queue
from app.services.copies.run import plan_next_attempt, run_claimed
from app.services.copies.source import has_source
from app.services.jobs import claims
from app.services.jobs.outcomes import record_failure
from app.services.jobs.settling import Reconciled, settles

logger = logging.getLogger(__name__)

_PER_TURN = 100
_FORGOTTEN = timedelta(seconds=30)  # after which a task may have been lost

_RUNNER_GONE = Interrupted(
    "the copy was interrupted",
    detail="Its runner is gone: it was killed, or its machine was restarted.",
    hint="It is tried again by itself.",
)


def copy_what_is_due() -> None:
    """Queue a copy of each new backup for each of its stores, and those to be tried again.

    One cheap statement if there is nothing to do. Any number of workers may do this at once.
    """
    if not ask(select(or_(exists(_missing()), exists(_due()), exists(_forgotten()))))[0][0]:
        return
    for backup_id, store_id in _pairs(_missing()):
        _insert(backup_id, store_id)
    for copy_id in _ids(_due()):
        _queue_again(copy_id)
    for copy_id in _ids(_forgotten()):
        wake_worker(copy_id)


@copies_queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_copy(copy_id: str) -> None:
    """Claim a queued copy and make it, unless somebody else does."""
    if claims.claim(copy_id, Copy):
        run_claimed(copy_id)


def wake_worker(copy_id: str) -> None:
    """Queue its task, unless that is already queued."""
    copies_queue.wake(run_copy, copy_id)


def new_copy(backup: DatabaseBackup, store: Store, *, trigger: Trigger, by: str = "") -> Copy:
    """The row of a copy that is to be made."""
    return Copy(
        store_id=store.id,
        backup_id=backup.id,
        filename=backup.filename,
        database_id=backup.database_id,
        dumped_at=backup.created_at,
        is_partial=backup.is_partial,
        trigger=trigger,
        created_by=by[:255],
    )


@settles
def settle_dead_copies(report: Reconciled) -> None:
    """End the copies whose runner is gone; the next attempt finds what it has left."""
    running = select(Copy).where(Copy.status == Status.PENDING, Copy.claimed_by.is_not(None))
    dead = [
        (copy.id, copy.filename, copy.lease_until)
        for copy in db.session.scalars(running)
        if copy.claimed_by is not None and claims.is_dead(copy.claimed_by, copy.lease_until)
    ]
    db.session.commit()
    for copy_id, filename, lease_until in dead:
        if record_failure(copy_id, _RUNNER_GONE, judged=lease_until, job=Copy):
            plan_next_attempt(copy_id)
            report.failed.append(f"copy of {filename}")


def _missing() -> Select[str, str]:
    """Backups that ended since a store was added, and are not copied to it."""
    return (
        select(DatabaseBackup.id, Store.id)
        .join(Store, DatabaseBackup.finished_at >= Store.created_at)
        .where(
            DatabaseBackup.status == Status.COMPLETED,
            DatabaseBackup.delete_requested_at.is_(None),
            Store.is_paused.is_(False),
            is_for_store(DatabaseBackup.database_id),
            ~exists().where(Copy.store_id == Store.id, Copy.filename == DatabaseBackup.filename),
        )
        .order_by(DatabaseBackup.created_at)
        .limit(_PER_TURN)
    )


def is_for_store(
    database_id: InstrumentedAttribute[str] | InstrumentedAttribute[str | None],
) -> ColumnElement[bool]:
    """In a query of stores: whether the store takes backups of that database."""
    chosen = exists().where(
        StoreDatabase.store_id == Store.id, StoreDatabase.database_id == database_id
    )
    return or_(Store.takes_all, chosen)


def _due() -> Select[str]:
    """Copies that failed, or were found missing or damaged, and are to be made again."""
    return (
        select(Copy.id)
        .join(Store)
        .where(
            Copy.status != Status.PENDING,
            Copy.next_attempt_at <= now(),
            has_source(),
            Store.is_paused.is_(False),
        )
        .limit(_PER_TURN)
    )


def _forgotten() -> Select[str]:
    """Copies that nobody has claimed for a while."""
    return (
        select(Copy.id)
        .join(Store)
        .where(
            Copy.status == Status.PENDING,
            Copy.claimed_by.is_(None),
            Copy.created_at < now() - _FORGOTTEN,
            Store.is_paused.is_(False),
        )
        .limit(_PER_TURN)
    )


def _pairs(query: Select[str, str]) -> list[tuple[str, str]]:
    pairs = [(backup_id, store_id) for backup_id, store_id in db.session.execute(query)]
    db.session.commit()
    return pairs


def _ids(query: Select[str]) -> list[str]:
    ids = list(db.session.scalars(query))
    db.session.commit()
    return ids


def _insert(backup_id: str, store_id: str) -> None:
    try:
        with writing() as session:
            backup, store = session.get(DatabaseBackup, backup_id), session.get(Store, store_id)
            if backup is None or store is None:
                return
            copy = new_copy(backup, store, trigger=backup.trigger)
            session.add(copy)
            session.flush()
            copy_id = copy.id
    except IntegrityError:
        return  # another worker was quicker
    wake_worker(copy_id)


def _queue_again(copy_id: str) -> None:
    still_due = select(Copy).where(
        Copy.id == copy_id, Copy.next_attempt_at <= now(), Copy.status != Status.PENDING
    )
    with writing() as session:
        copy = session.scalar(still_due.with_for_update())
        if copy is not None:  # else another worker was quicker
            copy.wait_again()
    wake_worker(copy_id)
