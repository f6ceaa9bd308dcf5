"""A restore: one attempt to make a database of a backup, for use or as a drill."""

import enum
from datetime import datetime
from typing import Any

from cuid2 import create_id
from sqlalchemy import JSON, Index, String, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import AppError
from app.extensions import Model
from app.models.job import Job
from app.models.types import Moment, Word


class Kind(enum.Enum):
    """What is restored, and into what."""

    DRILL = "drill"  # into a scratch database, which is dropped
    BESIDE = "beside"  # into a new database
    REPLACE = "replace"  # into a new database, which then takes the living one's name
    IN_PLACE = "in place"  # over the living database itself, all or nothing


class Restore(Job, Model):
    """A row of `restores`."""

    __tablename__ = "restores"
    word = "restore"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    filename: Mapped[str] = mapped_column(String(255))  # of the backup; it may be deleted since
    kind: Mapped[Kind] = mapped_column(Word(Kind))
    server: Mapped[str] = mapped_column(String(255))
    database: Mapped[str] = mapped_column(String(255))  # the name that it shall have
    working: Mapped[str] = mapped_column(String(63))  # its name until it is whole
    # Of a restore in place: whether a superuser may load it, and by which table's
    # number it is seen to have happened, which no name tells.
    as_superuser: Mapped[bool] = mapped_column(default=False, server_default=false())
    marker: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # Schema and name of those that were chosen; all without.
    tables: Mapped[list[dict[str, str]] | None] = mapped_column(JSON(none_as_null=True))

    # Of a replace: what the living database was called from the swap on.
    kept: Mapped[str | None] = mapped_column(String(63))
    kept_until: Mapped[datetime | None] = mapped_column(Moment)
    safety_backup: Mapped[str | None] = mapped_column(String(255))
    undone_at: Mapped[datetime | None] = mapped_column(Moment)
    undone_by: Mapped[str | None] = mapped_column(String(255))
    dropped_at: Mapped[datetime | None] = mapped_column(Moment)

    # When its working database and role were seen to be gone.
    tidied_at: Mapped[datetime | None] = mapped_column(Moment)

    # What was found, in words: differences and what could not be brought back.
    result: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    @property
    def told(self) -> str:
        """What people call it."""
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
        """Whether the database of before is kept, and not in use again."""
        return self.has_kept and self.is_completed and self.undone_at is None

    @property
    def has_kept(self) -> bool:
        """Whether a database that is set aside waits to be dropped."""
        return not self.is_pending and self.kept is not None and self.dropped_at is None

    def fail(self, error: AppError) -> None:
        """Nothing was swapped, and this is why."""
        super().fail(error)
        self.kept = self.kept_until = None

    __table_args__ = (
        # One at a time, for it takes the whole machine; but no drill holds up a restore.
        *(
            Index(name, "status", unique=True, sqlite_where=where, postgresql_where=where)
            for name, where in (
                (
                    "uq_restores_one_drill_pending",
                    text("status = 'PENDING' AND kind = 'drill'"),
                ),
                ("uq_restores_one_pending", text("status = 'PENDING' AND kind <> 'drill'")),
            )
        ),
        Index("ix_restores_newest", "created_at", "id"),
        Index(
            "ix_restores_untold",
            "status",
            sqlite_where=text("told_at IS NULL"),
            postgresql_where=text("told_at IS NULL"),
        ),
    )
