"""A worker that runs queued jobs, and its last heartbeat."""

from datetime import datetime, timedelta

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, now

HEARTBEAT = timedelta(seconds=10)


class Worker(Model):
    """A row of `workers`; a worker that ends cleanly deletes its row."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)  # as in claimed_by
    started_at: Mapped[datetime] = mapped_column(Moment, default=now)
    seen_at: Mapped[datetime] = mapped_column(Moment, default=now)
