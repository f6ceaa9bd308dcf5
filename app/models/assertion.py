"""An assertion: SQL that must return true in every database that is restored."""

from datetime import datetime

from cuid2 import create_id
from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, now


class Assertion(Model):
    """A row of `assertions`."""

    __tablename__ = "assertions"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    server: Mapped[str] = mapped_column(String(255))  # as that of the backups it applies to
    database: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(100))
    statement: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(String(255))

    __table_args__ = (
        UniqueConstraint("server", "database", "name", name="uq_assertions_of_database"),
    )
