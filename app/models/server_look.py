"""What a worker saw when it looked at a server that we guard a database of."""

from datetime import datetime

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment


class ServerLook(Model):
    """A row of `server_looks`: the last look at one server."""

    __tablename__ = "server_looks"

    # As the databases there have them.
    server: Mapped[str] = mapped_column(String(255), primary_key=True)
    ssh_url: Mapped[str] = mapped_column(String(400), primary_key=True)
    asked_at: Mapped[datetime] = mapped_column(Moment)
    asked_by: Mapped[str] = mapped_column(String(32))  # the id of the database that led there
    # The names of its databases, without its own, at the last answer; empty before the first.
    dbnames: Mapped[list[str]] = mapped_column(JSON, default=list)
