"""A backup: one attempt to dump a database and, if it succeeded, its dump."""

from datetime import datetime
from typing import Any

from cuid2 import create_id
from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, false, text
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

    # None for an import, whose database is elsewhere.
    database_id: Mapped[str | None] = mapped_column(ForeignKey("databases.id"))
    # Facts of the time of the dump: the server is "host:port", as shown to people.
    server: Mapped[str] = mapped_column(String(255))
    database: Mapped[str] = mapped_column(String(255))
    # An import, or without our signature: its own statements are not trusted.
    foreign: Mapped[bool] = mapped_column(default=False, server_default=false())
    # The rows of some tables were left out, so it never counts as a full one.
    is_partial: Mapped[bool] = mapped_column(default=False, server_default=false())
    # A proof of level 2 or more has passed; if False, see the proofs.
    proven: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Set at the start of a deletion; an interrupted one is finished by reconcile.
    delete_requested_at: Mapped[datetime | None] = mapped_column(Moment)

    # A pin exempts it from every retention rule.
    pinned_at: Mapped[datetime | None] = mapped_column(Moment)
    pinned_by: Mapped[str] = mapped_column(String(255), default="", server_default="")
    pin_reason: Mapped[str] = mapped_column(String(200), default="", server_default="")

    # Set by an edit of notes or pin; reconcile then rewrites the manifest.
    manifest_stale: Mapped[bool] = mapped_column(default=False, server_default=false())

    sha256: Mapped[str] = mapped_column(String(64), default="")
    database_size: Mapped[int | None] = mapped_column(BigInteger)  # bytes on the server
    # The contents of the dump that a restore must know: encoding, extensions, tables.
    contents: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True), deferred=True, deferred_raiseload=False
    )
    server_version: Mapped[str] = mapped_column(String(32), default="")
    tool_version: Mapped[str] = mapped_column(String(32), default="")
    compression: Mapped[str] = mapped_column(String(32), default="")
    oldest_reader: Mapped[int | None]  # major version of the oldest pg_restore that reads it

    __table_args__ = (
        # At most one pending backup of a database.
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
        # Each covers the query of a figure, so that no rows are read.
        Index("ix_database_backups_of_database", "status", "database_id", "created_at"),
        Index("ix_database_backups_of_trigger", "status", "trigger", "size"),
        Index(
            "ix_database_backups_untold",
            "status",
            sqlite_where=text("told_at IS NULL"),
            postgresql_where=text("told_at IS NULL"),
        ),
        # All columns that retention needs, because the rows are wide.
        Index(
            "ix_database_backups_for_retention",
            *("database_id", "status", "created_at", "id", "filename"),
            *("pinned_at", "foreign", "is_partial", "proven", "delete_requested_at", "size"),
        ),
        Index("ix_database_backups_names", "id", "database_id"),
    )

    @property
    def is_pinned(self) -> bool:
        return self.pinned_at is not None

    def fail(self, error: AppError) -> None:
        """End it without a dump, because of this error."""
        super().fail(error)
        self.size, self.sha256 = 0, ""


def filename_of(moment: datetime) -> str:
    """backup_2026-11-23T12-59-30-123Z.dump: UTC, milliseconds."""
    return f"backup_{moment:%Y-%m-%dT%H-%M-%S}-{moment.microsecond // 1000:03d}Z.dump"
