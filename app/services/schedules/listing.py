"""Schedules as faces show them: when they are next due, and their results."""

from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from sqlalchemy import Select, func, select

from app.errors import InvalidInput
from app.extensions import db
from app.models import Database, DatabaseBackup, Firing, Restore, Schedule, Task
from app.models.types import now
from app.services.databases.lookup import default_database
from app.services.schedules.times import next_times

SHOWN = 5  # times


def task_named(word: str) -> Task:
    """A task by its word. Raises InvalidInput."""
    try:
        return Task(word)
    except ValueError as error:
        raise InvalidInput(
            f"not a task of a schedule: {word[:64]!r}",
            hint=f"Tasks are {', '.join(task.value for task in Task)}.",
        ) from error


def list_next_times(schedule: Schedule) -> list[datetime]:
    """When a schedule is next due, in UTC; no times if it is paused."""
    if not schedule.enabled:
        return []
    try:
        return list(islice(next_times(schedule.cron, schedule.timezone, now()), SHOWN))
    except (KeyError, ValueError):  # its time zone no longer exists
        return []


def find_next_backup(of: Database | None = None) -> datetime | None:
    """When the next scheduled backup of a database is due; None if none is scheduled."""
    return db.session.scalar(next_backup_of(of or default_database()))


def next_backup_of(database: Database) -> Select[datetime | None]:
    """The query; it always has one row."""
    of_database = {"database_id": database.id, "task": Task.BACKUP, "enabled": True}
    return select(func.min(Schedule.next_due_at)).filter_by(**of_database)


def backups_of(firings: Iterable[Firing]) -> dict[str, str]:
    """The names of the backups that came of due times, by their job."""
    jobs = [firing.job_id for firing in firings if firing.job_id]
    made = select(DatabaseBackup.id, DatabaseBackup.filename).where(DatabaseBackup.id.in_(jobs))
    return {job: filename for job, filename in db.session.execute(made)}  # noqa: C416


def restores_of(firings: Iterable[Firing]) -> set[str]:
    """The jobs of due times that became drills."""
    jobs = [firing.job_id for firing in firings if firing.job_id]
    return set(db.session.scalars(select(Restore.id).where(Restore.id.in_(jobs))))
