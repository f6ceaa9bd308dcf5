"""What a retention policy will remove automatically, and when."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, select

from app.extensions import db
from app.models import RetentionPolicy
from app.services.databases.configured import database_name
from app.services.retention.policies import Standing, get_standing, standing_of
from app.services.retention.prune import Preview, preview
from app.services.schedules.listing import find_next_backup, next_backup_of


@dataclass(frozen=True)
class Outlook:
    """What a policy removes next, whether it may, and when."""

    preview: Preview
    standing: Standing
    next_backup_at: datetime | None  # by a schedule; the policy applies after it

    def in_words(self) -> str:
        """When the policy applies, in one or two sentences."""
        if self.standing.is_empty:
            return "It removes nothing."
        when = (
            f"after each scheduled backup, next at {self.next_backup_at:%Y-%m-%d %H:%M} UTC"
            if self.next_backup_at
            else "after each scheduled backup; none is scheduled now"
        )
        if self.standing.waits:
            return (
                f"It removes nothing automatically until it is confirmed; then it applies {when}."
            )
        return f"It applies {when}."


def get_glance() -> tuple[datetime | None, Standing]:
    """When the next backup is due and how the policy stands: one query, for the list of backups."""
    name = database_name()._asdict()
    due = next_backup_of(database_name()).subquery()
    is_its = and_(*(getattr(RetentionPolicy, key) == value for key, value in name.items()))
    both = select(due.c[0], RetentionPolicy).select_from(due.outerjoin(RetentionPolicy, is_its))
    next_backup_at, policy = db.session.execute(both).one()
    return next_backup_at, standing_of(policy)


def get_outlook(limit: int | None = None) -> Outlook:
    """The outlook of the configured database, with at most `limit` backups of each kind."""
    return Outlook(preview(limit=limit), get_standing(), find_next_backup())
