"""A backup: one attempt to dump a database and, if it succeeded, its dump."""

from datetime import datetime
from typing import Any

from cuid2 import create_id
from sqlalchemy import JSON, BigInteger, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import AppError
from app.extensions import Model
from app.models.job import Job
from app.models.types import Moment


class DatabaseBackup(Job, Model):
    """A row of `database_backups`."""

    __tablename__ = "database_backups"
    word = "backup"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    filename: Mapped[str] = mapped_column(String(255), unique=True)
    size: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes; 0 until known
    notes: Mapped[str] = mapped_column(Text, default="")

    server: Mapped[str] = mapped_column(String(255))  # "host:port", as people call it
    database: Mapped[str] = mapped_column(String(255))
    # A dump that somebody brought: nothing of it is believed that it only says itself.
    foreign: Mapped[bool] = mapped_column(default=False, server_default=false())
    # That a proof of level 2 or more has passed; where it is False, only the proofs tell.
    proven: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Set first by a delete; whoever finds it finishes the delete.
    delete_requested_at: Mapped[datetime | None] = mapped_column(Moment)

    # A pin exempts it from every retention rule.
    pinned_at: Mapped[datetime | None] = mapped_column(Moment)
    pinned_by: Mapped[str] = mapped_column(String(255), default="", server_default="")
    pin_reason: Mapped[str] = mapped_column(String(200), default="", server_default="")

    # Set with other notes or a pin; whoever finds it writes the manifest anew.
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
        Index("ix_database_backups_of_status", "status", "created_at", "id"),
        # Each holds all that a figure needs, so that the rows themselves are not read.
        Index("ix_database_backups_of_database", "status", "server", "database", "created_at"),
        Index("ix_database_backups_of_trigger", "status", "trigger", "size"),
        Index(
            "ix_database_backups_untold",
            "status",
            sqlite_where=text("told_at IS NULL"),
            postgresql_where=text("told_at IS NULL"),
        ),
        # All that retention asks of a backup, without a look at its wide row.
        Index(
            "ix_database_backups_for_retention",
            *("server", "database", "status", "created_at", "id", "filename"),
            *("pinned_at", "foreign", "proven", "delete_requested_at", "size"),
        ),
        Index("ix_database_backups_names", "id", "server", "database"),
    )

    @property
    def is_pinned(self) -> bool:
        return self.pinned_at is not None

    def fail(self, error: AppError) -> None:
        """There is no dump, and this is why."""
        super().fail(error)
        self.size, self.sha256 = 0, ""


def filename_of(moment: datetime) -> str:
    """backup_2026-11-23T12-59-30-123Z.dump: UTC, milliseconds."""
    return f"backup_{moment:%Y-%m-%dT%H-%M-%S}-{moment.microsecond // 1000:03d}Z.dump"
