"""An entry of the audit: who did what, when and from where, and its outcome."""

import enum

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model


class ActOutcome(enum.Enum):
    """The outcome of an act."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class AuditEntry(Model):
    """A row of `audit_entries`: written once; the catalogue itself refuses a change.

    All columns but `id` are text, just as they were hashed: whatever is done
    to a row, it can be read and judged.
    """

    __tablename__ = "audit_entries"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(24))  # 2026-11-23T12:59:30.123Z, so it sorts
    actor: Mapped[str] = mapped_column(String(255))
    face: Mapped[str] = mapped_column(String(16))
    origin: Mapped[str] = mapped_column(String(255))
    action: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(255))
    outcome: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))

    __table_args__ = (
        Index("ix_audit_entries_actor", "actor", "id"),
        Index("ix_audit_entries_action", "action", "id"),
        Index("ix_audit_entries_outcome", "outcome", "id"),
        Index("ix_audit_entries_origin", "origin", "at"),
    )
