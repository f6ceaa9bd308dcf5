"""How fast the dumps here grow, and how long the disk has room for them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from app.extensions import db
from app.models import Database, DatabaseBackup, Status
from app.models.types import now

_MONTH, _DAY = timedelta(days=30), timedelta(days=1)
_MOST_DAYS = 3650  # later is not foreseen


@dataclass(frozen=True)
class Growth:
    """The dumps here, and those of the last month."""

    stored: int  # bytes of all of them
    recent: int  # bytes that the last month has added
    since: datetime | None  # when the first of these was made

    @property
    def daily(self) -> float:
        """Bytes added in a day; a history of less than a day counts as one."""
        return self.recent / max((now() - self.since) / _DAY, 1) if self.since else 0

    def days_left(self, free: int) -> float | None:
        """The days until so many free bytes are used, if nothing is deleted; None: ten years."""
        days = free / self.daily if self.daily else _MOST_DAYS
        return days if days < _MOST_DAYS else None


def read_growth() -> Growth:
    """Read it from the catalogue."""
    completed = DatabaseBackup.status == Status.COMPLETED
    stored = db.session.scalar(select(func.sum(DatabaseBackup.size)).where(completed))
    recent, since = db.session.execute(
        select(func.sum(DatabaseBackup.size), func.min(DatabaseBackup.created_at)).where(
            # Named, so that an index covers it: the rows are wide.
            DatabaseBackup.database_id.in_(select(Database.id)),
            completed,
            DatabaseBackup.created_at.between(now() - _MONTH, now()),
        )
    ).one()
    db.session.commit()
    return Growth(int(stored or 0), int(recent or 0), since)
