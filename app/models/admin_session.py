"""A session: one browser or script in which an admin is signed in."""

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.extensions import Model
from app.models.types import Moment, now

if TYPE_CHECKING:
    from app.models.admin import Admin


class AdminSession(Model):
    """A row of `admin_sessions`; deleting it signs that browser out.

    The cookie holds the token, the row only its SHA-256: who reads the
    catalogue cannot sign in with what stands there.
    """

    __tablename__ = "admin_sessions"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    admin_id: Mapped[str] = mapped_column(ForeignKey("admins.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    last_seen_at: Mapped[datetime] = mapped_column(Moment, default=now)

    admin: Mapped["Admin"] = relationship(back_populates="sessions", lazy="joined")
