"""Backups that fail, are too old, or are unlike those before them.

Each question is asked for all databases at once.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from statistics import median

from humanize import naturaldelta
from sqlalchemy import ColumnElement, Select, and_, exists, func, select
from sqlalchemy.orm import aliased

from app.config import settings
from app.extensions import db
from app.models import Admin, Database, DatabaseBackup, Fact, Level, Proof, Status
from app.models.types import moment_text
from app.postgres.connection import is_refusal
from app.services.alerts.conditions.trouble import Trouble, ended_as, size_text, trouble_of
from app.services.backups.good import find_newest_good, first_good
from app.services.databases.lookup import not_retired
from app.services.proofs.records import failing_backups

_BEFORE = 5  # backups with which a new one is compared
_ENOUGH = 3  # of them, before it is
_SHORT = timedelta(minutes=1)  # what takes no longer than so much more is not slow

#: By database: its newest completed backups, the newest first, and their numbers of tables.
Completed = dict[str, list[tuple[DatabaseBackup, int | None]]]


def list_completed() -> Completed:
    """The backups of which the questions below are asked."""
    newest_first = func.row_number().over(
        partition_by=DatabaseBackup.database_id, order_by=DatabaseBackup.created_at.desc()
    )
    ours = select(DatabaseBackup.id, newest_first.label("place")).where(*_ours(Status.COMPLETED))
    chosen = ours.subquery()
    first_proof = (
        select(Proof.evidence)
        .where(Proof.backup_id == DatabaseBackup.id, Proof.level == Level.READ)
        .order_by(Proof.proved_at)
        .limit(1)
        .scalar_subquery()
    )
    rows = (
        select(DatabaseBackup, first_proof)
        .join(chosen, chosen.c.id == DatabaseBackup.id)
        .where(chosen.c.place <= 1 + _BEFORE)
        .order_by(chosen.c.place)
    )
    completed: Completed = defaultdict(list)
    for backup, evidence in db.session.execute(rows):
        tables = (evidence or {}).get("tables")
        number = tables if isinstance(tables, int) else None
        completed[str(backup.database_id)].append((backup, number))
    return completed


def failing() -> Iterator[Trouble]:
    """One alarm for each database, however many have failed since its last success."""
    for database, last, number, since in db.session.execute(_failures()):
        times = "A backup" if number == 1 else f"{number} backups"
        refused = is_refusal(last.error_detail)
        yield trouble_of(
            Fact.ACCESS_REFUSED if refused else Fact.BACKUP_FAILED,
            database,
            f"{times} of {database.name} failed{': the server refuses us' if refused else ''}",
            ended_as(f"Since {moment_text(since)}. The last, {last.filename}", last),
            since,
        )


def _failures() -> Select[Database, DatabaseBackup, int, datetime]:
    """Each database that fails, its last failure, their number, and when the first ended."""
    later = aliased(DatabaseBackup)
    has_succeeded_since = exists().where(
        later.database_id == DatabaseBackup.database_id,
        later.created_at > DatabaseBackup.created_at,
        *_ours(Status.COMPLETED, later),
    )
    failed = (
        select(
            DatabaseBackup.database_id,
            func.max(DatabaseBackup.created_at).label("last"),
            func.count().label("number"),
            func.min(DatabaseBackup.finished_at).label("since"),
        )
        .where(
            *_ours(Status.FAILED),
            DatabaseBackup.cancelled_by.is_(None),
            ~has_succeeded_since,
        )
        .group_by(DatabaseBackup.database_id)
        .subquery()
    )
    is_last = and_(
        DatabaseBackup.database_id == failed.c.database_id,
        DatabaseBackup.created_at == failed.c.last,
    )
    return (
        select(Database, DatabaseBackup, failed.c.number, failed.c.since)
        .join(failed, failed.c.database_id == Database.id)
        .join(DatabaseBackup, is_last)
    )


def too_old(databases: list[Database], completed: Completed, at: datetime) -> Iterator[Trouble]:
    """No good one for longer than the setting allows."""
    failed = failing_backups()
    installed_at = db.session.scalar(select(func.min(Admin.created_at)))
    for database in databases:
        bound = timedelta(seconds=database.max_age or settings().alarm_max_age)
        made = [backup for backup, _ in completed.get(database.id, [])]
        newest = first_good(made, failed)
        if newest is None and len(made) > _BEFORE:  # it is behind many that are not good
            newest = find_newest_good(database, partial=bool(database.without_rows_of))
        since = newest.created_at if newest else _guarded_since(database, installed_at)
        if not bound or since is None or at - since <= bound:
            continue
        state = f"the newest is {newest.filename}" if newest else "there is none"
        yield trouble_of(
            Fact.BACKUP_TOO_OLD,
            database,
            f"No good backup of {database.name} for more than {naturaldelta(bound)}",
            f"Of {database.dbname} on {database.server} {state}. One is expected every"
            f" {naturaldelta(bound)} (BACKSTOP_ALARM_MAX_AGE).",
            since + bound,
        )


def _guarded_since(database: Database, installed_at: datetime | None) -> datetime | None:
    """Without any backup, the age of the panel counts, or of the database in it."""
    if database.from_environment or installed_at is None:
        return installed_at
    return max(installed_at, database.created_at)


def unlike_the_others(database: Database, completed: Completed) -> Iterator[Trouble]:
    """Smaller, slower or with fewer tables than those before: something may be wrong."""
    made = completed.get(database.id, [])
    if len(made) <= _ENOUGH:
        return
    (newest, tables), *before = made
    earlier = [backup for backup, _ in before]

    def unlike(kind: Fact, what: str, now: str, usual: str) -> Trouble:
        body = f"{newest.filename}: {now}; the median of the {len(earlier)} before it is {usual}."
        return trouble_of(
            kind, database, f"Backup of {database.name} {what}", body, newest.finished_at
        )

    bounds = settings()
    size = median(backup.size for backup in earlier)
    if newest.size * 100 < size * bounds.alarm_smaller:
        figures = size_text(newest.size), size_text(size)
        yield unlike(Fact.BACKUP_SMALLER, "is smaller than usual", *figures)
    usual, took = timedelta(seconds=median(map(_seconds, earlier))), _seconds(newest)
    bound = max(usual * bounds.alarm_slower / 100, usual + _SHORT)
    if bounds.alarm_slower and took > bound.total_seconds():
        figures = naturaldelta(took), naturaldelta(usual)
        yield unlike(Fact.BACKUP_SLOWER, "takes longer than usual", *figures)
    others = [number for _, number in before if number is not None]
    if tables is None or len(others) < _ENOUGH:
        return
    if tables * 100 < median(others) * bounds.alarm_fewer_tables:
        figures = f"{tables} tables", f"{median(others):g}"
        yield unlike(Fact.FEWER_TABLES, "has fewer tables than usual", *figures)


def _ours(
    status: Status, backup: type[DatabaseBackup] = DatabaseBackup
) -> tuple[ColumnElement[bool], ...]:
    """In a query: that a guarded database is backed up like this now, and with this result."""
    databases = select(Database.id).where(not_retired())
    partial = databases.where(func.json_array_length(Database.without_rows_of) > 0)
    return (
        backup.database_id.in_(databases),
        backup.status == status,
        backup.foreign.is_(False),
        backup.is_partial == backup.database_id.in_(partial),
        backup.delete_requested_at.is_(None),
    )


def _seconds(backup: DatabaseBackup) -> float:
    return backup.duration.total_seconds() if backup.duration else 0.0
