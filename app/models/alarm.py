"""An alarm: a trouble, from when it began until it is resolved."""

import enum
from datetime import datetime

from cuid2 import create_id
from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, Word


class Fact(enum.Enum):
    """What notifiers subscribe to, in the past tense where possible."""

    BACKUP_COMPLETED = "backup-completed"
    DRILL_PASSED = "drill-passed"
    BACKUP_FAILED = "backup-failed"
    ACCESS_REFUSED = "access-refused"  # password, certificate or role
    BACKUP_MISSED = "backup-missed"
    BACKUP_TOO_OLD = "backup-too-old"
    BACKUP_SMALLER = "backup-smaller"
    BACKUP_SLOWER = "backup-slower"
    FEWER_TABLES = "fewer-tables"
    FILE_MISSING = "file-missing"
    FILE_DAMAGED = "file-damaged"
    DRILL_FAILED = "drill-failed"
    NOT_POSSIBLE = "not-possible"  # a scheduled drill or scrub
    DISK_LOW = "disk-low"
    WORKER_SILENT = "worker-silent"
    NOTIFIER_FAILED = "notifier-failed"
    UNGUARDED = "databases-unguarded"
    COPY_OVERDUE = "copy-overdue"
    COPY_LOST = "copy-lost"  # found missing or damaged in its store
    EXPORT_OVERDUE = "export-overdue"  # of the catalogue, to a store that takes it


#: Good news: these never open an alarm.
GOOD_NEWS = frozenset({Fact.BACKUP_COMPLETED, Fact.DRILL_PASSED})


class Alarm(Model):
    """A row of `alarms`. At most one of a kind and subject is open."""

    __tablename__ = "alarms"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    kind: Mapped[Fact] = mapped_column(Word(Fact, 32))
    subject: Mapped[str] = mapped_column(String(600))  # distinguishes it from others of its kind
    # None and empty: it concerns no database.
    database_id: Mapped[str | None] = mapped_column(ForeignKey("databases.id"))
    server: Mapped[str] = mapped_column(String(255), default="")
    database: Mapped[str] = mapped_column(String(255), default="")
    title: Mapped[str] = mapped_column(String(255))
    body: Mapped[str] = mapped_column(Text, default="")
    opened_at: Mapped[datetime] = mapped_column(Moment)
    # When a message was queued; delayed if the same was sent just before.
    told_at: Mapped[datetime | None] = mapped_column(Moment)
    told: Mapped[str] = mapped_column(String(255), default="")  # the title as it was then
    closed_at: Mapped[datetime | None] = mapped_column(Moment)

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    __table_args__ = (
        Index(
            "uq_alarms_one_open",
            "kind",
            "subject",
            unique=True,
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index("ix_alarms_newest", "opened_at", "id"),
        Index("ix_alarms_told", "kind", "subject", "told_at"),
    )
