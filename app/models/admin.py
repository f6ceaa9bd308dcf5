"""An admin: somebody who may do everything in the panel."""

from datetime import datetime

from cuid2 import create_id
from sqlalchemy import String, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.extensions import Model
from app.models.admin_session import AdminSession
from app.models.types import Moment, now


class Admin(Model):
    """A row of `admins`. Of the password only its argon2id hash is kept."""

    __tablename__ = "admins"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    username: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    password_generated: Mapped[bool] = mapped_column(default=False, server_default=false())
    time_zone: Mapped[str] = mapped_column(String(64), default="UTC", server_default="UTC")
    language: Mapped[str] = mapped_column(String(8), default="", server_default="")  # "": browser's
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)

    sessions: Mapped[list[AdminSession]] = relationship(
        back_populates="admin", cascade="all, delete-orphan", passive_deletes=True
    )
