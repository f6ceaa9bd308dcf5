"""A backup: one attempt to dump a database and, if it succeeded, its dump."""

import enum
from datetime import datetime, timedelta
from typing import Any

from cuid2 import create_id
from sqlalchemy import JSON, BigInteger, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import AppError
from app.extensions import Model
from app.models.types import Moment, Word, now

LEASE = timedelta(seconds=60)


class BackupStatus(enum.Enum):
    """Where a backup stands. COMPLETED means whole, checked and durable."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Trigger(enum.Enum):
    """What started a backup."""

    ADMIN = "admin"
    API = "api"
    CLI = "cli"
    SCHEDULE = "schedule"


class DatabaseBackup(Model):
    """A row of `database_backups`."""

    __tablename__ = "database_backups"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    filename: Mapped[str] = mapped_column(String(255), unique=True)
    size: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes; 0 until known
    status: Mapped[BackupStatus] = mapped_column(Word(BackupStatus), default=BackupStatus.PENDING)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    notes: Mapped[str] = mapped_column(Text, default="")

    server: Mapped[str] = mapped_column(String(255))  # "host:port", as people call it
    database: Mapped[str] = mapped_column(String(255))
    trigger: Mapped[Trigger] = mapped_column(Word(Trigger))
    created_by: Mapped[str] = mapped_column(String(255), default="")
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)

    # Who runs it, and until when that is believed without a look.
    claimed_by: Mapped[str | None] = mapped_column(String(255))
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    process: Mapped[str | None] = mapped_column(String(255))  # the program at work for it
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    cancelled_by: Mapped[str | None] = mapped_column(String(255))  # who asked for its end
    # Set first by a delete; whoever finds it finishes the delete.
    delete_requested_at: Mapped[datetime | None] = mapped_column(Moment)

    # Set with other notes; whoever finds it writes the manifest anew.
    manifest_stale: Mapped[bool] = mapped_column(default=False, server_default=false())

    sha256: Mapped[str] = mapped_column(String(64), default="")
    database_size: Mapped[int | None] = mapped_column(BigInteger)  # bytes on the server
    # What the dump holds and a restore must know: encoding, extensions, tables.
    contents: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True), deferred=True, deferred_raiseload=False
    )
    server_version: Mapped[str] = mapped_column(String(32), default="")
    tool_version: Mapped[str] = mapped_column(String(32), default="")
    compression: Mapped[str] = mapped_column(String(32), default="")
    oldest_reader: Mapped[int | None]  # major version of the oldest pg_restore that reads it

    error_message: Mapped[str] = mapped_column(Text, default="")
    error_detail: Mapped[str] = mapped_column(Text, default="")
    error_hint: Mapped[str] = mapped_column(Text, default="")
    log: Mapped[str] = mapped_column(Text, default="", deferred=True, deferred_raiseload=False)

    __table_args__ = (
        # Whoever comes second learns at once which backup is in the way.
        Index(
            "uq_database_backups_one_pending",
            "server",
            "database",
            unique=True,
            sqlite_where=text("status = 'PENDING'"),
            postgresql_where=text("status = 'PENDING'"),
        ),
        Index("ix_database_backups_newest", "created_at", "id"),
    )

    @property
    def is_pending(self) -> bool:
        return self.status is BackupStatus.PENDING

    @property
    def is_completed(self) -> bool:
        return self.status is BackupStatus.COMPLETED

    @property
    def duration(self) -> timedelta | None:
        """How long it ran, or has been running."""
        if self.started_at is None:
            return None
        return (self.finished_at or now()) - self.started_at

    def claim(self, runner: str) -> None:
        """Say who runs it from now on."""
        self.claimed_by = runner
        self.started_at = now()
        self.lease_until = now() + LEASE

    def complete(self, finished_at: datetime) -> None:
        """The dump is whole, checked and durable under its final name."""
        self.status = BackupStatus.COMPLETED
        self.error_message = self.error_detail = self.error_hint = ""
        self._end(finished_at)

    def fail(self, error: AppError) -> None:
        """There is no dump, and this is why."""
        self.status = BackupStatus.FAILED
        self.size, self.sha256 = 0, ""
        self.error_message = error.message
        self.error_detail = error.detail
        self.error_hint = error.hint
        self._end(now())

    def _end(self, finished_at: datetime) -> None:
        self.finished_at = finished_at
        self.claimed_by = self.lease_until = self.process = self.progress = None


def filename_of(moment: datetime) -> str:
    """backup_2026-11-23T12-59-30-123Z.dump: UTC, milliseconds."""
    return f"backup_{moment:%Y-%m-%dT%H-%M-%S}-{moment.microsecond // 1000:03d}Z.dump"
