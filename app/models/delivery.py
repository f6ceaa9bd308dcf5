"""A delivery: one message to one notifier or monitor, retried until it is accepted."""

import enum
from datetime import datetime

from cuid2 import create_id
from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, Word, now

#: The fact of a test message: only its sender sees the result.
TEST = "test"


class DeliveryStatus(enum.Enum):
    """Where a message stands."""

    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"


class Delivery(Model):
    """A row of `deliveries`."""

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    # Whose message it is: each lane has one under way at a time, the oldest first.
    lane: Mapped[str] = mapped_column(String(32))
    notifier_id: Mapped[str | None] = mapped_column(ForeignKey("notifiers.id", ondelete="CASCADE"))
    heartbeat: Mapped[str | None] = mapped_column(Text)  # in place of a notifier: a sealed URL
    key: Mapped[str] = mapped_column(String(255))  # a notifier gets no two with the same key
    fact: Mapped[str] = mapped_column(String(32))
    level: Mapped[str] = mapped_column(String(16))  # info, success, warning, failure
    title: Mapped[str] = mapped_column(String(255))
    body: Mapped[str] = mapped_column(Text)

    status: Mapped[DeliveryStatus] = mapped_column(
        Word(DeliveryStatus), default=DeliveryStatus.QUEUED
    )
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(Moment, default=now)
    lease_until: Mapped[datetime | None] = mapped_column(Moment)  # a process is sending it
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    last_error: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        UniqueConstraint("lane", "key", name="uq_deliveries_once"),
        Index(
            "ix_deliveries_queued",
            "next_attempt_at",
            sqlite_where=text("status = 'queued'"),
            postgresql_where=text("status = 'queued'"),
        ),
        Index("ix_deliveries_newest", "created_at", "id"),
        Index("ix_deliveries_of_notifier", "notifier_id", "created_at"),
    )
