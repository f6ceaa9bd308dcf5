"""What became of the backups of each database, day by day in UTC."""

import enum
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute

from app.extensions import db
from app.models import DatabaseBackup, Firing, Level, Outcome, Proof, Result, Schedule, Status, Task
from app.models.types import now

SHOWN = 30  # days

Key = tuple[str, str]  # the id of a database, and a day in ISO 8601


class DayState(enum.Enum):
    """The best that is known of one day."""

    RESTORE_TESTED = "a backup was restore-tested"
    VERIFIED = "backed up and verified"
    FAILED = "no backup succeeded"
    NOTHING = "no backup"


@dataclass(frozen=True)
class Day:
    """One day of one database."""

    date: date
    state: DayState


def days_of(databases: Collection[str]) -> Mapping[str, list[Day]]:
    """The last days of each of these databases that had any backup then, oldest first, by its id.

    Backups that retention has removed since are known by the schedules that made them. Six
    queries, whatever the number of databases.
    """
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    midnight = today - timedelta(days=SHOWN - 1)
    best = dict.fromkeys(_tried(databases, midnight), DayState.FAILED)
    best |= dict.fromkeys(_verified(databases, midnight), DayState.VERIFIED)
    best |= dict.fromkeys(_restore_tested(databases, midnight), DayState.RESTORE_TESTED)
    dates = [midnight.date() + timedelta(days=number) for number in range(SHOWN)]
    return {
        database_id: [
            Day(moment, best.get((database_id, moment.isoformat()), DayState.NOTHING))
            for moment in dates
        ]
        for database_id in {database_id for database_id, _ in best}
    }


def _verified(databases: Collection[str], since: datetime) -> Iterator[Key]:
    rows = select(DatabaseBackup.database_id, _day(DatabaseBackup.created_at)).where(
        DatabaseBackup.created_at >= since,
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.proven,
        DatabaseBackup.database_id.in_(databases),
    )
    yield from _keys(rows)
    yield from _keys(_firings(databases, since, Outcome.COMPLETED))


def _tried(databases: Collection[str], since: datetime) -> Iterator[Key]:
    rows = select(DatabaseBackup.database_id, _day(DatabaseBackup.created_at)).where(
        DatabaseBackup.created_at >= since,
        DatabaseBackup.status != Status.PENDING,
        DatabaseBackup.database_id.in_(databases),
    )
    yield from _keys(rows)
    yield from _keys(_firings(databases, since, Outcome.FAILED))


def _restore_tested(databases: Collection[str], since: datetime) -> Iterator[Key]:
    rows = (
        select(DatabaseBackup.database_id, _day(Proof.proved_at))
        .join(DatabaseBackup, DatabaseBackup.id == Proof.backup_id)
        .where(
            Proof.proved_at >= since,
            Proof.level >= Level.RESTORED,
            Proof.result == Result.PASSED,
            DatabaseBackup.database_id.in_(databases),
        )
    )
    yield from _keys(rows)
    tested = _firings(databases, since, Outcome.COMPLETED, Task.DRILL)
    yield from _keys(tested)


def _firings(
    databases: Collection[str], since: datetime, outcome: Outcome, task: Task = Task.BACKUP
) -> Select[str, str]:
    return (
        select(Schedule.database_id, _day(Firing.due_at))
        .join(Schedule, Schedule.id == Firing.schedule_id)
        .where(
            Firing.due_at >= since,
            Firing.outcome == outcome,
            Schedule.task == task,
            Schedule.database_id.in_(databases),
        )
    )


def _keys(rows: Select[str | None, str] | Select[str, str]) -> Iterator[Key]:
    for database_id, day in db.session.execute(rows.distinct()):
        yield str(database_id), str(day)


def _day(moment: InstrumentedAttribute[datetime]) -> ColumnElement[str]:
    """The day of a moment in UTC, in ISO 8601."""
    if db.engine.dialect.name == "sqlite":
        return func.date(moment)
    return func.to_char(func.timezone("UTC", moment), "YYYY-MM-DD")
