"""A restore: one attempt to make a database from a backup, to use it or as a drill."""

import enum
from datetime import datetime
from typing import Any

from cuid2 import create_id
from sqlalchemy import JSON, ForeignKey, Index, String, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import AppError
from app.extensions import Model
from app.models.job import Job
from app.models.types import Moment, Word


class Kind(enum.Enum):
    """What a backup is restored into."""

    DRILL = "drill"  # into a scratch database, which is dropped
    BESIDE = "beside"  # into a new database
    REPLACE = "replace"  # into a new database, which then takes the live one's name
    IN_PLACE = "in place"  # over the live database itself, all or nothing
    REFRESH = "refresh"  # into a new database, which takes the name of a copy made before


class Restore(Job, Model):
    """A row of `restores`."""

    __tablename__ = "restores"
    word = "restore"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    filename: Mapped[str] = mapped_column(String(255))  # of the backup; it may be deleted since
    kind: Mapped[Kind] = mapped_column(Word(Kind))
    # The guarded database that it replaces, or on whose server it works.
    database_id: Mapped[str | None] = mapped_column(ForeignKey("databases.id"))
    server: Mapped[str] = mapped_column(String(255))
    database: Mapped[str] = mapped_column(String(255))  # its final name
    working: Mapped[str] = mapped_column(String(63))  # its name until it is complete
    # What it was made for, which may be deleted since.
    schedule_id: Mapped[str | None] = mapped_column(String(32))
    # Whether a superuser may load it, and an OID that shows whether it took effect.
    as_superuser: Mapped[bool] = mapped_column(default=False, server_default=false())
    marker: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # Schema and name of the chosen tables; None for all.
    tables: Mapped[list[dict[str, str]] | None] = mapped_column(JSON(none_as_null=True))

    # For a replace or a refresh: the old database's name after the swap.
    kept: Mapped[str | None] = mapped_column(String(63))
    kept_until: Mapped[datetime | None] = mapped_column(Moment)
    safety_backup: Mapped[str | None] = mapped_column(String(255))
    undone_at: Mapped[datetime | None] = mapped_column(Moment)
    undone_by: Mapped[str | None] = mapped_column(String(255))
    dropped_at: Mapped[datetime | None] = mapped_column(Moment)

    # When its working database and role were removed.
    tidied_at: Mapped[datetime | None] = mapped_column(Moment)

    # The findings, in words: differences and what could not be restored.
    result: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    @property
    def label(self) -> str:
        """Its name in texts."""
        return "drill" if self.kind is Kind.DRILL else "restore"

    @property
    def is_drill(self) -> bool:
        return self.kind is Kind.DRILL

    @property
    def is_replace(self) -> bool:
        return self.kind is Kind.REPLACE

    @property
    def is_in_place(self) -> bool:
        return self.kind is Kind.IN_PLACE

    @property
    def can_be_undone(self) -> bool:
        """Whether the old database is kept, and not in use again."""
        return self.has_kept and self.is_completed and self.undone_at is None

    @property
    def has_kept(self) -> bool:
        """Whether a database that was set aside waits to be dropped."""
        return not self.is_pending and self.kept is not None and self.dropped_at is None

    def fail(self, error: AppError) -> None:
        """Record that nothing was swapped, and why."""
        super().fail(error)
        self.kept = self.kept_until = None

    __table_args__ = (
        # One restore at a time, because it takes the whole machine; but drills of other
        # databases wait for their turn, and do not block restores.
        *(
            Index(name, column, unique=True, sqlite_where=where, postgresql_where=where)
            for name, column, where in (
                (
                    "uq_restores_one_drill_pending",
                    "database_id",
                    text("status = 'PENDING' AND kind = 'drill'"),
                ),
                (
                    "uq_restores_one_pending",
                    "status",
                    text("status = 'PENDING' AND kind <> 'drill'"),
                ),
            )
        ),
        Index("ix_restores_newest", "created_at", "id"),
        Index("ix_restores_of_schedule", "schedule_id"),
        Index(
            "ix_restores_untold",
            "status",
            sqlite_where=text("told_at IS NULL"),
            postgresql_where=text("told_at IS NULL"),
        ),
    )
