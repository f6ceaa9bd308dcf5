"""What became of the backups of each database, day by day in a time zone."""

import enum
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, literal, select
from sqlalchemy.orm import InstrumentedAttribute

from app.extensions import db
from app.models import DatabaseBackup, Firing, Level, Outcome, Proof, Result, Schedule, Status, Task
from app.models.types import now

SHOWN = 30  # days

Key = tuple[str, str]  # the id of a database, and a day in ISO 8601
Moments = InstrumentedAttribute[datetime]

_STEP = timedelta(minutes=30)  # clocks are set forward or back at such times of UTC


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


@dataclass(frozen=True)
class _Asked:
    """What is asked for: databases, and the midnight with which the first day begins."""

    databases: Collection[str]
    since: datetime
    offsets: Sequence[tuple[datetime, timedelta]]  # each with the time at which it ends

    def day(self, moment: Moments) -> ColumnElement[str]:
        """The day of a moment, in ISO 8601."""
        if db.engine.dialect.name == "sqlite":
            return func.date(moment, self._offset(moment, _sqlite_modifier))
        shifted = func.timezone("UTC", moment) + self._offset(moment, literal)
        return func.to_char(shifted, "YYYY-MM-DD")

    def _offset(
        self, moment: Moments, written: Callable[[timedelta], ColumnElement[Any]]
    ) -> ColumnElement[Any]:
        """How far the zone is from UTC at a moment: its clocks may be set meanwhile."""
        *changed, last = self.offsets
        if not changed:
            return written(last[1])
        whens = [(moment < until, written(offset)) for until, offset in changed]
        return case(*whens, else_=written(last[1]))


def _offsets(since: datetime) -> list[tuple[datetime, timedelta]]:
    """The offsets of its zone from UTC, from a moment until now."""
    zone, moment, end = since.tzinfo, since.astimezone(UTC), now()
    offsets: list[tuple[datetime, timedelta]] = []
    while moment < end:
        moment += _STEP
        offset = (moment - _STEP).astimezone(zone).utcoffset() or timedelta()
        if offsets and offsets[-1][1] == offset:
            offsets[-1] = moment, offset
        else:
            offsets.append((moment, offset))
    return offsets


def _sqlite_modifier(offset: timedelta) -> ColumnElement[str]:
    return literal(f"{offset.total_seconds():+.0f} seconds")


def days_of(databases: Collection[str], zone: tzinfo = UTC) -> Mapping[str, list[Day]]:
    """The last days of each of these databases that had any backup then, oldest first, by its id.

    Backups that retention has removed since are known by the schedules that made them. Six
    queries, whatever the number of databases.
    """
    first = now().astimezone(zone).date() - timedelta(days=SHOWN - 1)
    since = datetime.combine(first, time(), zone)
    asked = _Asked(databases, since, _offsets(since))
    best = dict.fromkeys(_tried(asked), DayState.FAILED)
    best |= dict.fromkeys(_verified(asked), DayState.VERIFIED)
    best |= dict.fromkeys(_restore_tested(asked), DayState.RESTORE_TESTED)
    dates = [first + timedelta(days=number) for number in range(SHOWN)]
    return {
        database_id: [
            Day(moment, best.get((database_id, moment.isoformat()), DayState.NOTHING))
            for moment in dates
        ]
        for database_id in {database_id for database_id, _ in best}
    }


def _verified(asked: _Asked) -> Iterator[Key]:
    rows = select(DatabaseBackup.database_id, asked.day(DatabaseBackup.created_at)).where(
        DatabaseBackup.created_at >= asked.since,
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.proven,
        DatabaseBackup.database_id.in_(asked.databases),
    )
    yield from _keys(rows)
    yield from _keys(_firings(asked, Outcome.COMPLETED))


def _tried(asked: _Asked) -> Iterator[Key]:
    rows = select(DatabaseBackup.database_id, asked.day(DatabaseBackup.created_at)).where(
        DatabaseBackup.created_at >= asked.since,
        DatabaseBackup.status != Status.PENDING,
        DatabaseBackup.database_id.in_(asked.databases),
    )
    yield from _keys(rows)
    yield from _keys(_firings(asked, Outcome.FAILED))


def _restore_tested(asked: _Asked) -> Iterator[Key]:
    rows = (
        select(DatabaseBackup.database_id, asked.day(Proof.proved_at))
        .join(DatabaseBackup, DatabaseBackup.id == Proof.backup_id)
        .where(
            Proof.proved_at >= asked.since,
            Proof.level >= Level.RESTORED,
            Proof.result == Result.PASSED,
            DatabaseBackup.database_id.in_(asked.databases),
        )
    )
    yield from _keys(rows)
    tested = _firings(asked, Outcome.COMPLETED, Task.DRILL)
    yield from _keys(tested)


def _firings(asked: _Asked, outcome: Outcome, task: Task = Task.BACKUP) -> Select[str, str]:
    return (
        select(Schedule.database_id, asked.day(Firing.due_at))
        .join(Schedule, Schedule.id == Firing.schedule_id)
        .where(
            Firing.due_at >= asked.since,
            Firing.outcome == outcome,
            Schedule.task == task,
            Schedule.database_id.in_(asked.databases),
        )
    )


def _keys(rows: Select[str | None, str] | Select[str, str]) -> Iterator[Key]:
    for database_id, day in db.session.execute(rows.distinct()):
        yield str(database_id), str(day)
