"""Figures for monitoring: the newest backup of each database, stores, counts and workers.

The number of queries does not grow with the rows.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, case, func, select

from app.extensions import db
from app.models import Copy, Database, DatabaseBackup, Level, Proof, Result, Status, Store, Trigger
from app.services.backups.good import newest_good_of_each
from app.services.databases.configured import storage
from app.services.databases.lookup import list_databases
from app.services.jobs.workers import is_silent, list_workers
from app.services.proofs.records import best_proofs


@dataclass(frozen=True)
class Newest:
    """The newest backup of ours that is COMPLETED."""

    finished_at: datetime
    size: int  # bytes
    duration: timedelta
    is_there: bool  # its dump
    proof_level: int | None  # as the pages show it; 0: its proof failed
    proved_at: datetime | None


@dataclass
class OfDatabase:
    """The figures of one database."""

    newest: Newest | None = None
    last_good: datetime | None = None  # when the newest good backup had ended
    last_failure: datetime | None = None  # when the newest FAILED one was requested
    last_drill: datetime | None = None  # when a drill of one of its backups last passed


@dataclass(frozen=True)
class OfStore:
    """The figures of one store; only good copies count, unless they are lost or pending."""

    copies: int
    size: int  # bytes
    newest: datetime | None  # when the newest backup with a copy there was made
    lost: int
    pending: int
    exported: datetime | None = None  # the catalogue, if the store takes it


@dataclass
class Figures:
    """All figures in the catalogue."""

    databases: list[tuple[Database, OfDatabase]]  # those with backups, and all that are guarded
    stores: dict[str, OfStore]  # by name
    backups: dict[tuple[Status, Trigger], int]
    stored: int  # bytes of all dumps
    living: int  # workers
    silent: int
    heartbeat: datetime | None  # the newest of all workers


def read_figures() -> Figures:
    """Read them all from the catalogue, as it is now."""
    backups, stored = _count()
    databases: defaultdict[str, OfDatabase] = defaultdict(OfDatabase)
    _find_newest(databases)
    for database_id, good in newest_good_of_each().items():
        databases[database_id].last_good = good and good.ended_at
    _find_failures(databases)
    _find_drills(databases)
    stores, heard = _stores(), list_workers()
    silent = sum(map(is_silent, heard))
    heartbeat = max((worker.seen_at for worker in heard), default=None)
    known = [(database, databases[database.id]) for database in list_databases(with_retired=True)]
    db.session.commit()
    return Figures(known, stores, backups, stored, len(heard) - silent, silent, heartbeat)


def _count() -> tuple[dict[tuple[Status, Trigger], int], int]:
    kinds = (DatabaseBackup.status, DatabaseBackup.trigger)
    counted = select(*kinds, func.count(), func.sum(DatabaseBackup.size)).group_by(*kinds)
    rows = db.session.execute(counted).all()
    return {(row[0], row[1]): row[2] for row in rows}, sum(int(row[3]) for row in rows)


def _find_newest(databases: defaultdict[str, OfDatabase]) -> None:
    """Of one moment there is one backup, or the names of two would be the same."""
    chosen = select(DatabaseBackup).where(
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.created_at.in_(_last_of_each(Status.COMPLETED)),
    )
    rows = db.session.scalars(chosen).all()
    best = best_proofs(rows)
    has_file = storage().has
    for row in rows:
        proof = best.get(row.id)
        finished_at = row.finished_at or row.created_at
        databases[str(row.database_id)].newest = Newest(
            finished_at=finished_at,
            size=row.size,
            duration=finished_at - (row.started_at or finished_at),
            is_there=has_file(row.filename),
            proof_level=None if proof is None else 0 if proof.is_failed else proof.level,
            proved_at=None if proof is None else proof.proved_at,
        )


def _find_failures(databases: defaultdict[str, OfDatabase]) -> None:
    last = _last_of_each(Status.FAILED).add_columns(DatabaseBackup.database_id)
    for moment, database_id in db.session.execute(last):
        databases[database_id].last_failure = moment


def _last_of_each(status: Status) -> Select[datetime]:
    """When the last backup with this status was requested, for each database of ours."""
    return (
        select(func.max(DatabaseBackup.created_at))
        .where(DatabaseBackup.status == status, DatabaseBackup.database_id.is_not(None))
        .group_by(DatabaseBackup.database_id)
    )


def _find_drills(databases: defaultdict[str, OfDatabase]) -> None:
    drills = (
        select(DatabaseBackup.database_id, func.max(Proof.proved_at))
        .join(DatabaseBackup, DatabaseBackup.id == Proof.backup_id)
        .where(Proof.level.in_([Level.RESTORED, Level.ASSERTED]), Proof.result == Result.PASSED)
        .where(DatabaseBackup.database_id.is_not(None))
        .group_by(DatabaseBackup.database_id)
    )
    for database_id, last in db.session.execute(drills):
        databases[str(database_id)].last_drill = last


def _stores() -> dict[str, OfStore]:
    is_good = Copy.good()
    counted = (
        select(
            Store.name,
            func.count().filter(is_good),
            func.coalesce(func.sum(Copy.size).filter(is_good), 0),
            func.max(Copy.dumped_at).filter(is_good),
            func.count().filter(Copy.loss.is_not(None)),
            func.count().filter(Copy.status == Status.PENDING),
            case((Store.getting_catalogue(), Store.exported_at)),
        )
        .outerjoin(Copy)
        .group_by(Store.id)
    )
    rows = db.session.execute(counted.order_by(Store.name))
    return {
        name: OfStore(copies, int(size), newest, lost, pending, exported)
        for name, copies, size, newest, lost, pending, exported in rows
    }
