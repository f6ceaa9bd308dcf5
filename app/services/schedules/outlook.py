"""What a retention policy will remove automatically, and when."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from sqlalchemy import select

from app.extensions import db
from app.models import Database, RetentionPolicy, Store
from app.services.databases.lookup import default_database
from app.services.retention.policies import Standing, get_standing, standing_of
from app.services.retention.prune import Preview, preview
from app.services.schedules.listing import find_next_backup, next_backup_of


@dataclass(frozen=True)
class Outlook:
    """What a policy removes next, whether it may, and when."""

    preview: Preview
    standing: Standing
    next_backup_at: datetime | None  # by a schedule; the policy applies after it
    store: Store | None = None  # it is about copies there

    def in_words(self, zone: tzinfo = UTC) -> str:
        """When the policy applies, in one or two sentences."""
        if self.standing.is_empty:
            return "It removes nothing."
        after = f"each copy to {self.store.name} of a" if self.store else "each"
        next_at = self.next_backup_at and self.next_backup_at.astimezone(zone)
        when = (
            f"after {after} scheduled backup, next at {next_at:%Y-%m-%d %H:%M %Z}"
            if next_at
            else f"after {after} scheduled backup; none is scheduled now"
        )
        if self.standing.waits:
            return (
                f"It removes nothing automatically until it is confirmed; then it applies {when}."
            )
        return f"It applies {when}."


def get_glance(of: Database | None = None) -> tuple[datetime | None, Standing]:
    """When the next backup is due and how the policy stands: one query, for the list of backups."""
    database = of or default_database()
    due = next_backup_of(database).subquery()
    is_its = RetentionPolicy.database_id == database.id
    both = select(due.c[0], RetentionPolicy).select_from(due.outerjoin(RetentionPolicy, is_its))
    next_backup_at, policy = db.session.execute(both).one()
    return next_backup_at, standing_of(policy)


def get_outlook(
    of: Database | None = None, store: Store | None = None, *, limit: int | None = None
) -> Outlook:
    """The outlook of a database, with at most `limit` backups of each kind."""
    database = of or default_database()
    standing, next_backup_at = get_standing(database, store), find_next_backup(database)
    return Outlook(preview(database, store, limit=limit), standing, next_backup_at, store)
