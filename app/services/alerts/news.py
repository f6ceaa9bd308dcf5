"""Good news: backups and drills that succeeded, each sent once to notifiers that want it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import cast

from humanize import naturaldelta, naturalsize
from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session

from app.extensions import ask
from app.models import AnyJob, DatabaseBackup, Fact, Restore, Status
from app.services.alerts.deliveries import Message

_AT_ONCE = 200  # rows in one turn
_STALE = timedelta(days=1)  # older ends are not news: the backup was adopted or found again

_JOBS: tuple[AnyJob, ...] = (DatabaseBackup, Restore)


def news_waits() -> ColumnElement[bool]:
    """In a query: whether a job has ended that nobody has looked at."""
    return or_(
        *(exists().where(job.told_at.is_(None), job.status != Status.PENDING) for job in _JOBS)
    )


def has_news() -> bool:
    """Whether a job has ended that nobody has looked at."""
    return bool(ask(select(news_waits()))[0][0])


def take_news(session: Session, at: datetime) -> Iterator[Message]:
    """Messages about jobs that have ended since the last turn; they are marked as told."""
    for job in _JOBS:
        ended = select(job).where(job.told_at.is_(None), job.status != Status.PENDING)
        for job_row in session.scalars(ended.order_by(job.created_at).limit(_AT_ONCE)):
            row = cast("DatabaseBackup | Restore", job_row)
            row.told_at = at
            is_new = row.finished_at is not None and row.finished_at > at - _STALE
            if is_new and row.is_completed:  # one that failed has an alarm
                yield from _messages(row)


def _messages(row: DatabaseBackup | Restore) -> Iterator[Message]:
    took = naturaldelta(row.duration) if row.duration else "a moment"
    name = {"server": row.server, "database": row.database}
    if isinstance(row, Restore):
        if row.is_drill:
            title, body = f"Drill of {row.filename} passed", f"It took {took}."
            yield Message(f"drill:{row.id}", Fact.DRILL_PASSED, "success", title, body)
    elif not row.foreign:
        size = naturalsize(row.size, binary=True)
        title = f"Backup of {row.database} completed"
        body = f"{row.filename}: {size} in {took}, of {row.database} on {row.server}."
        yield Message(f"backup:{row.id}", Fact.BACKUP_COMPLETED, "success", title, body, **name)
