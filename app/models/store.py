"""A store: another place where copies of backups lie."""

import enum
from datetime import datetime

from cuid2 import create_id
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    ForeignKey,
    String,
    Text,
    and_,
    cast,
    or_,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.extensions import Model
from app.models.database import Database
from app.models.types import Moment, Word, now


class ReadBack(enum.Enum):
    """Which new copies are read back and hashed."""

    ALWAYS = "always"
    SAMPLE = "sample"  # one in ten
    NEVER = "never"


class TakesCatalogue(enum.Enum):
    """Whether the panel's own catalogue is exported to a store: it has hashes of passwords."""

    ENCRYPTED = "encrypted"  # only while the store has recipients
    ALWAYS = "always"
    NEVER = "never"


class Store(Model):
    """A row of `stores`."""

    __tablename__ = "stores"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    address: Mapped[str] = mapped_column(String(1000))  # a URL without secrets
    # Encrypted JSON; empty where the environment or the machine's role has them.
    credentials: Mapped[str] = mapped_column(Text, default="")
    is_paused: Mapped[bool] = mapped_column(default=False)  # nothing is copied to it
    # Public keys of age, which encrypt its copies; without any they are not encrypted.
    recipients: Mapped[list[str]] = mapped_column(JSON, default=list)
    # The secret of one of them, encrypted: with it the panel reads these copies. Mostly empty.
    drill_key: Mapped[str] = mapped_column(Text, default="", server_default="")
    read_back: Mapped[ReadBack] = mapped_column(Word(ReadBack), default=ReadBack.ALWAYS)
    # The most that one upload takes; None: no limit.
    bytes_per_second: Mapped[int | None] = mapped_column(BigInteger)
    # Whether it gets copies of all databases, also of those that are added later.
    takes_all: Mapped[bool] = mapped_column(default=True)
    databases: Mapped[list[Database]] = relationship(secondary="store_databases")
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(String(255), default="")

    # Exports of the catalogue: the last one, when the next one is due (None: at once), and why
    # the last attempt failed.
    takes_catalogue: Mapped[TakesCatalogue] = mapped_column(
        Word(TakesCatalogue), default=TakesCatalogue.ENCRYPTED, server_default="encrypted"
    )
    exported_at: Mapped[datetime | None] = mapped_column(Moment)
    export_due_at: Mapped[datetime | None] = mapped_column(Moment)
    export_error: Mapped[str] = mapped_column(Text, default="", server_default="")

    @property
    def gets_catalogue(self) -> bool:
        """Whether the catalogue is exported to it."""
        if self.takes_catalogue is TakesCatalogue.ENCRYPTED:
            return bool(self.recipients)
        return self.takes_catalogue is TakesCatalogue.ALWAYS

    @classmethod
    def getting_catalogue(cls) -> ColumnElement[bool]:
        """The same in a query."""
        has_recipients = cast(cls.recipients, String) != "[]"
        is_safe = and_(cls.takes_catalogue == TakesCatalogue.ENCRYPTED, has_recipients)
        return or_(cls.takes_catalogue == TakesCatalogue.ALWAYS, is_safe)


class StoreDatabase(Model):
    """A row of `store_databases`: a database whose backups are copied to a store."""

    __tablename__ = "store_databases"

    store_id: Mapped[str] = mapped_column(
        ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True
    )
    database_id: Mapped[str] = mapped_column(ForeignKey("databases.id"), primary_key=True)
