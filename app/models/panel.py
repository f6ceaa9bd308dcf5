"""The panel itself, as the owner of its stores."""

from cuid2 import create_id
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model


class Panel(Model):
    """The only row of `panels`, made when it is first needed."""

    __tablename__ = "panels"

    number: Mapped[int] = mapped_column(primary_key=True, default=1, autoincrement=False)
    id: Mapped[str] = mapped_column(String(32), default=create_id)
