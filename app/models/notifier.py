"""A notifier: somewhere people are told."""

from datetime import datetime

from cuid2 import create_id
from sqlalchemy import JSON, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.alarm import GOOD_NEWS, Fact
from app.models.types import Moment, now


class Notifier(Model):
    """A row of `notifiers`."""

    __tablename__ = "notifiers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    url: Mapped[str] = mapped_column(Text)  # sealed; it is never shown again
    target: Mapped[str] = mapped_column(String(400))  # what of it may be told
    # Words of facts; None: every alarm, also of kinds to come.
    facts: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    title: Mapped[str] = mapped_column(String(200), default="")  # templates; empty: ours
    body: Mapped[str] = mapped_column(Text, default="")
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(String(255), default="")

    def wants(self, fact: Fact) -> bool:
        """Whether it is to be told of such a fact."""
        if not self.enabled:
            return False
        if self.facts is None:
            return fact not in GOOD_NEWS
        # A backup that fails since we are refused has failed all the same.
        failed = fact is Fact.ACCESS_REFUSED and Fact.BACKUP_FAILED.value in self.facts
        return failed or fact.value in self.facts
