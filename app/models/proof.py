"""A proof of a backup: its level, its result and its time."""

import enum
from datetime import datetime, timedelta
from typing import Any

from cuid2 import create_id
from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, Word, now


class Level(enum.IntEnum):
    """The level of a proof; each includes the ones before."""

    CHECKSUM = 1  # the dump is unchanged, byte for byte
    READ = 2  # all of it can be read, and has the rows that were counted
    RESTORED = 3  # it was restored, and the result is right
    ASSERTED = 4  # pg_amcheck and the assertions found nothing wrong

    @property
    def word(self) -> str:
        """The level for people."""
        return _WORDS[self]


class Result(enum.Enum):
    """How a proof came out."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_POSSIBLE = "not possible"  # here; it proves nothing about the backup


_WORDS = {
    Level.CHECKSUM: "Checksum right",
    Level.READ: "Read back",
    Level.RESTORED: "Restored",
    Level.ASSERTED: "Restored and checked",
}


class Proof(Model):
    """A row of `proofs`."""

    __tablename__ = "proofs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    backup_id: Mapped[str] = mapped_column(
        ForeignKey("database_backups.id", onupdate="CASCADE", ondelete="CASCADE")
    )
    level: Mapped[int]
    result: Mapped[Result] = mapped_column(Word(Result))
    proved_at: Mapped[datetime] = mapped_column(Moment, default=now)
    milliseconds: Mapped[int] = mapped_column(BigInteger)  # how long it took
    # What was counted, and in `differences` what is wrong, in words.
    evidence: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    @property
    def word(self) -> str:
        """The result for people."""
        if self.result is Result.FAILED:
            return "Proof failed"
        word = Level(self.level).word
        return f"{word}: not possible here" if self.result is Result.NOT_POSSIBLE else word

    @property
    def duration(self) -> timedelta:
        """How long it took."""
        return timedelta(milliseconds=self.milliseconds)

    @property
    def is_passed(self) -> bool:
        return self.result is Result.PASSED

    @property
    def is_failed(self) -> bool:
        return self.result is Result.FAILED

    __table_args__ = (
        Index("ix_proofs_of_level", "level", "result", "backup_id", "proved_at"),
        Index(
            "ix_proofs_failed",
            "backup_id",
            sqlite_where=text("result = 'failed'"),
            postgresql_where=text("result = 'failed'"),
        ),
        Index("ix_proofs_of_backup", "backup_id", "result", "level"),
        Index("ix_proofs_of_result", "result", "level", "backup_id"),
    )
