"""A notifier: where messages go."""

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
    target: Mapped[str] = mapped_column(String(400))  # the part of it that may be shown
    # Facts by their words; None: every alarm, including kinds added later.
    facts: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    title: Mapped[str] = mapped_column(String(200), default="")  # templates; empty: ours
    body: Mapped[str] = mapped_column(Text, default="")
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(String(255), default="")

    def wants(self, fact: Fact) -> bool:
        """Whether it gets messages about this fact."""
        if not self.enabled:
            return False
        if self.facts is None:
            return fact not in GOOD_NEWS
        # A backup that fails because access is refused has failed too.
        failed = fact is Fact.ACCESS_REFUSED and Fact.BACKUP_FAILED.value in self.facts
        return failed or fact.value in self.facts
