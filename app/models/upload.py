"""An upload: a dump from elsewhere that arrives in parts."""

from datetime import datetime

from cuid2 import create_id
from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, now


class Upload(Model):
    """A row of `uploads`; the size of its file says how much has arrived."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    name: Mapped[str] = mapped_column(String(255))  # as the file was called elsewhere
    size: Mapped[int] = mapped_column(BigInteger)  # bytes, of the whole
    notes: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(String(255), default="")
