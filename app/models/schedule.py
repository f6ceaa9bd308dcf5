"""A schedule, and each of its due times."""

import enum
from datetime import datetime

from cuid2 import create_id
from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.extensions import Model
from app.models.database import Database
from app.models.types import Moment, Word, now


class Task(enum.Enum):
    """The task of a schedule."""

    BACKUP = "backup"
    DRILL = "drill"  # of the newest good backup
    SCRUB = "scrub"  # reads dumps that were not read for long
    RESTORE = "restore"  # of the newest good backup, beside its database


class Outcome(enum.Enum):
    """The state of a due time."""

    WAITING = "waiting"  # for its next attempt
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    NOT_POSSIBLE = "not possible"  # nothing was shown, for or against a backup


class Schedule(Model):
    """A row of `schedules`."""

    __tablename__ = "schedules"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    database_id: Mapped[str] = mapped_column(ForeignKey("databases.id"))
    name: Mapped[str] = mapped_column(String(100))
    task: Mapped[Task] = mapped_column(Word(Task))
    cron: Mapped[str] = mapped_column(String(255))
    timezone: Mapped[str] = mapped_column(String(64))  # of the IANA's database
    notes: Mapped[str] = mapped_column(Text, default="")  # of its backups
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(String(255))

    # The encrypted URL of a monitor that receives each run; empty: none.
    heartbeat: Mapped[str] = mapped_column(Text, default="", server_default="")

    # Of a scheduled restore: the database that it makes anew, on the same server; what to run
    # in it first; how many of those that it replaced are kept; and the OID of one that others
    # made and that an admin lets it replace.
    target: Mapped[str] = mapped_column(String(63), default="", server_default="")
    sql: Mapped[str] = mapped_column(Text, default="", server_default="")
    keep_last: Mapped[int] = mapped_column(default=1, server_default="1")
    replaceable: Mapped[int | None] = mapped_column(BigInteger)

    # The first is None while it is paused; the second reveals a clock that was set back.
    next_due_at: Mapped[datetime | None] = mapped_column(Moment)
    reckoned_at: Mapped[datetime] = mapped_column(Moment, default=now)

    database: Mapped[Database] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (
        UniqueConstraint("database_id", "name", name="uq_schedules_of_database"),
        Index("ix_schedules_due", "next_due_at"),
        Index("ix_schedules_reckoned", "reckoned_at"),
    )


class Firing(Model):
    """A row of `schedule_firings`: a due time of a schedule, which is fired once."""

    __tablename__ = "schedule_firings"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    schedule_id: Mapped[str] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"))
    due_at: Mapped[datetime] = mapped_column(Moment)
    outcome: Mapped[Outcome] = mapped_column(Word(Outcome), default=Outcome.WAITING)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(Moment)
    # Chosen before the job is queued, so that a crash in between makes no second job.
    job_id: Mapped[str | None] = mapped_column(String(32))
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    # Missed due times before this one, and the first of them.
    missed: Mapped[int] = mapped_column(default=0)
    missed_since: Mapped[datetime | None] = mapped_column(Moment)
    told: Mapped[str] = mapped_column(Text, default="")  # the latest note about it

    schedule: Mapped[Schedule] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (
        UniqueConstraint("schedule_id", "due_at", name="uq_schedule_firings_once"),
        Index("ix_schedule_firings_open", "outcome", "next_attempt_at"),
    )

    @property
    def is_at_work(self) -> bool:
        """Whether it is running or about to: not in a pause between two attempts."""
        is_new = self.outcome is Outcome.WAITING and not self.attempts
        return is_new or self.outcome is Outcome.RUNNING
