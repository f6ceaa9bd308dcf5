"""A copy of a backup in a store."""

import enum
from datetime import datetime
from typing import Any

from cuid2 import create_id
from sqlalchemy import JSON, BigInteger, ColumnElement, ForeignKey, Index, String, and_, false
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.job import Job, Status
from app.models.types import Moment, Word


class Loss(enum.Enum):
    """What is wrong with a copy that was good."""

    MISSING = "missing"
    DAMAGED = "damaged"


class Copy(Job, Model):
    """A row of `copies`, which outlives that of its backup."""

    __tablename__ = "copies"
    word = "copy"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    store_id: Mapped[str] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"))
    backup_id: Mapped[str | None] = mapped_column(
        ForeignKey("database_backups.id", ondelete="SET NULL")
    )
    # Facts of its backup.
    filename: Mapped[str] = mapped_column(String(255))
    database_id: Mapped[str | None] = mapped_column(ForeignKey("databases.id"))
    dumped_at: Mapped[datetime] = mapped_column(Moment)
    is_partial: Mapped[bool] = mapped_column(default=False, server_default=false())

    # Facts of its object, as the manifest beside it has them.
    key: Mapped[str] = mapped_column(String(300), default="")
    size: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes
    sha256: Mapped[str] = mapped_column(String(64), default="")
    is_encrypted: Mapped[bool] = mapped_column(default=False)
    # The public keys that it is encrypted to, sorted; None where another panel has made it.
    recipients: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    # The same facts of an object that is about to replace it, encrypted anew.
    replacement: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    # When it was last read back whole, and what is wrong with it since.
    verified_at: Mapped[datetime | None] = mapped_column(Moment)
    loss: Mapped[Loss | None] = mapped_column(Word(Loss))

    # How often it was tried in vain, and when the next attempt is due.
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(Moment)

    # When its removal was begun: from then on it does not count, whatever is left of it.
    removing_since: Mapped[datetime | None] = mapped_column(Moment)
    # When it was removed from its store; the row then keeps it from being made again.
    removed_at: Mapped[datetime | None] = mapped_column(Moment)
    # Its store does not let it go: no rule tries again before.
    locked_until: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        Index("uq_copies_of_file", "store_id", "filename", unique=True),
        Index("ix_copies_of_backup", "backup_id"),
        Index("ix_copies_of_status", "status", "next_attempt_at"),
        Index("ix_copies_of_database", "database_id", "store_id", "dumped_at"),
    )

    @property
    def is_good(self) -> bool:
        """Whether it is whole, as far as is known."""
        return self.is_completed and self.loss is None and self.removing_since is None

    @classmethod
    def good(cls) -> ColumnElement[bool]:
        """The same in a query."""
        return and_(
            cls.status == Status.COMPLETED, cls.loss.is_(None), cls.removing_since.is_(None)
        )

    def wait_again(self) -> None:
        """Wait for another attempt, for which a loss stays known."""
        self.status, self.next_attempt_at, self.progress = Status.PENDING, None, None
        self.started_at = self.finished_at = self.claimed_by = self.cancelled_by = None

    def remove(self, at: datetime) -> None:
        """It is no longer in its store, and nobody wants it there."""
        self.status, self.loss, self.removed_at = Status.FAILED, None, at
        self.verified_at = self.next_attempt_at = self.locked_until = None
        self.replacement = self.removing_since = None
        self.error_message = self.error_detail = self.error_hint = ""
