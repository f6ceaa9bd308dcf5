"""The common columns of backups and restores."""

import enum
from datetime import datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import JSON, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import AppError, Interrupted
from app.models.types import Moment, Word, now

LEASE = timedelta(seconds=60)


class Status(enum.Enum):
    """The status of a job. A COMPLETED backup is whole, checked and durable."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Trigger(enum.Enum):
    """What started a job."""

    ADMIN = "admin"
    API = "api"
    CLI = "cli"
    SCHEDULE = "schedule"


class Job:
    """Columns of a row that waits, runs and ends."""

    word: ClassVar[str]  # its name for people

    status: Mapped[Status] = mapped_column(Word(Status), default=Status.PENDING)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    trigger: Mapped[Trigger] = mapped_column(Word(Trigger))
    created_by: Mapped[str] = mapped_column(String(255), default="")
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)

    # When notifiers got the news of its end, or needed none.
    told_at: Mapped[datetime | None] = mapped_column(Moment)

    # Its runner, and until when that needs no check.
    claimed_by: Mapped[str | None] = mapped_column(String(255))
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    process: Mapped[str | None] = mapped_column(String(255))  # the program that works for it
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    cancelled_by: Mapped[str | None] = mapped_column(String(255))  # who cancelled it

    error_message: Mapped[str] = mapped_column(Text, default="")
    error_detail: Mapped[str] = mapped_column(Text, default="")
    error_hint: Mapped[str] = mapped_column(Text, default="")
    error_is_passing: Mapped[bool] = mapped_column(default=False, server_default=false())
    log: Mapped[str] = mapped_column(Text, default="", deferred=True, deferred_raiseload=False)

    @property
    def is_pending(self) -> bool:
        return self.status is Status.PENDING

    @property
    def is_completed(self) -> bool:
        return self.status is Status.COMPLETED

    @property
    def was_interrupted(self) -> bool:
        """Whether it failed only because its runner ended."""
        return self.error_message == f"the {self.word} was interrupted"

    @property
    def duration(self) -> timedelta | None:
        """How long it ran, or has been running."""
        if self.started_at is None:
            return None
        return (self.finished_at or now()) - self.started_at

    def claim(self, runner: str) -> None:
        """Start it with this runner."""
        self.claimed_by = runner
        self.started_at = now()
        self.lease_until = now() + LEASE

    def complete(self, finished_at: datetime) -> None:
        """End it successfully."""
        self.status = Status.COMPLETED
        self.error_message = self.error_detail = self.error_hint = ""
        self._end(finished_at)

    def fail(self, error: AppError) -> None:
        """End it because of this error."""
        self.status = Status.FAILED
        self.error_message = error.message
        self.error_detail = error.detail
        self.error_hint = error.hint
        self.error_is_passing = error.is_passing and self.cancelled_by is None
        self._end(now())

    def cancel(self, by: str) -> None:
        """Ask its runner to end it; without one, end it. The first who asks is recorded."""
        self.cancelled_by = self.cancelled_by or by[:255]
        if self.claimed_by is None:
            self.fail(Interrupted(f"cancelled by {self.cancelled_by}"))

    def _end(self, finished_at: datetime) -> None:
        self.finished_at = finished_at
        self.claimed_by = self.lease_until = self.process = self.progress = None
