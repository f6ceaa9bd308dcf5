"""A database that Backstop guards."""

import enum
from datetime import datetime

from cuid2 import create_id
from sqlalchemy import JSON, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, Word, now


class State(enum.Enum):
    """Whether a database is backed up."""

    ACTIVE = "active"
    PAUSED = "paused"  # its schedules wait; a backup on demand is possible
    RETIRED = "retired"  # never backed up again; its backups stay


class Database(Model):
    """A row of `databases`.

    Its name is the admin's choice, so a new host or password changes nothing else.
    """

    __tablename__ = "databases"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    # The connection URL, encrypted; empty if DATABASE_URL has it.
    url: Mapped[str] = mapped_column(Text, default="")
    # An SSH host on the way, as ssh://user@host:port; our key's file; the host's pinned key.
    ssh_url: Mapped[str] = mapped_column(String(400), default="")
    ssh_identity_file: Mapped[str] = mapped_column(String(400), default="")
    ssh_host_key: Mapped[str] = mapped_column(Text, default="")
    # Known by DATABASE_URL, or else the sample; retired when that names another one.
    from_environment: Mapped[bool] = mapped_column(default=False)
    server: Mapped[str] = mapped_column(String(255))  # "host:port", as shown to people
    dbname: Mapped[str] = mapped_column(String(255))  # its name on that server
    state: Mapped[State] = mapped_column(Word(State), default=State.ACTIVE)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(String(255), default="")
    # When its first schedules were made.
    seeded_at: Mapped[datetime | None] = mapped_column(Moment)

    # Options of its dumps; empty or None: those of the panel.
    compression: Mapped[str] = mapped_column(String(32), default="")
    # Schema-qualified tables whose rows are left out, which makes a backup partial.
    without_rows_of: Mapped[list[str]] = mapped_column(JSON, default=list)
    # Whether the rows of its tables are not counted beside the dump.
    skips_counting: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Sessions that copy tables at once.
    dump_jobs: Mapped[int | None]
    # Seconds; how old the newest good backup may become.
    max_age: Mapped[int | None]

    __table_args__ = (
        Index(
            "uq_databases_of_environment",
            "server",
            "dbname",
            unique=True,
            sqlite_where=text("from_environment"),
            postgresql_where=text("from_environment"),
        ),
    )
