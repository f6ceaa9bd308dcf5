"""All databases at a glance: how protected each one is, and what comes next.

The number of queries does not grow with the databases.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from app.config import settings
from app.extensions import db
from app.models import Database, Schedule, State, Task
from app.models.types import now
from app.services.backups.good import NewestGood, find_newest_good, newest_good_of_each
from app.services.copies.places import Spread, spreads_of
from app.services.databases.lookup import get_database, list_databases, state_of


@dataclass(frozen=True)
class Row:
    """One database, and what an admin wants to know of it first."""

    database: Database
    state: State
    last_good_at: datetime | None  # when its newest good backup ended
    fresh_at: datetime | None  # the same; or its newest partial one, if it is to leave rows out
    next_backup_at: datetime | None  # by a schedule
    max_age: timedelta  # how old the newest good backup may become; zero: any age
    spread: Spread | None  # where the copies of its newest good backup are

    @property
    def is_late(self) -> bool:
        """Whether an active database has no good backup that is young enough."""
        if self.state is not State.ACTIVE or not self.max_age:
            return False
        return (self.fresh_at or self.database.created_at) < now() - self.max_age

    @property
    def is_protected(self) -> bool:
        """Whether its newest good backup is there, and young enough."""
        return self.fresh_at is not None and not self.is_late


def read_overview(*, with_retired: bool = True) -> list[Row]:
    """A row for each database, by name."""
    newest_of, next_backups = newest_good_of_each(), _next_backups()
    spreads = spreads_of(newest_of)
    rows = [
        Row(
            database,
            state_of(database),
            (newest := newest_of.get(database.id)) and newest.ended_at,
            _fresh_at(database, newest),
            next_backups.get(database.id),
            timedelta(seconds=database.max_age or settings().alarm_max_age),
            spreads.get(database.id),
        )
        for database in list_databases(with_retired=with_retired)
    ]
    db.session.commit()
    return rows


def _fresh_at(database: Database, newest: NewestGood | None) -> datetime | None:
    ended = [newest.ended_at] if newest else []
    if database.without_rows_of and (partial := find_newest_good(database, partial=True)):
        ended.append(partial.finished_at or partial.created_at)
    return max(ended, default=None)


def read_row(name: str) -> Row:
    """That of one database, also of a retired one. Raises NotFound."""
    chosen = get_database(name).id
    return next(row for row in read_overview() if row.database.id == chosen)


def _next_backups() -> dict[str, datetime | None]:
    due = select(Schedule.database_id, func.min(Schedule.next_due_at)).where(
        Schedule.task == Task.BACKUP, Schedule.enabled
    )
    rows = db.session.execute(due.group_by(Schedule.database_id))
    return {database_id: moment for database_id, moment in rows}  # noqa: C416
