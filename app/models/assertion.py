"""An assertion: SQL that must return true in every database that is restored."""

from datetime import datetime

from cuid2 import create_id
from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.extensions import Model
from app.models.database import Database
from app.models.types import Moment, now


class Assertion(Model):
    """A row of `assertions`."""

    __tablename__ = "assertions"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    database_id: Mapped[str] = mapped_column(ForeignKey("databases.id"))
    name: Mapped[str] = mapped_column(String(100))
    statement: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(String(255))

    database: Mapped[Database] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (UniqueConstraint("database_id", "name", name="uq_assertions_of_database"),)
