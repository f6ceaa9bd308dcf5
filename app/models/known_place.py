"""An address from which an admin has signed in."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, now


class KnownPlace(Model):
    """A row of `known_places`: a pair of account and address, of which only a hash is kept."""

    __tablename__ = "known_places"

    key_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    signed_in_at: Mapped[datetime] = mapped_column(Moment, default=now, index=True)
