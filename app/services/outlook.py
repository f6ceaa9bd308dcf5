"""What a retention policy will do by itself, and when: what people see before it acts."""

from dataclasses import dataclass
from datetime import datetime

from app.services.policies import Standing, get_standing
from app.services.pruning import Preview, preview
from app.services.schedule_reading import find_next_backup


@dataclass(frozen=True)
class Outlook:
    """What goes next, by which leave, and when."""

    preview: Preview
    standing: Standing
    next_backup_at: datetime | None  # by a schedule; after it the policy acts

    def in_words(self) -> str:
        """When the policy acts, in one or two sentences."""
        if self.standing.is_empty:
            return "Nothing is removed."
        when = (
            f"after each scheduled backup, next at {self.next_backup_at:%Y-%m-%d %H:%M} UTC"
            if self.next_backup_at
            else "after each scheduled backup; none is scheduled now"
        )
        if self.standing.waits:
            return f"It removes nothing by itself until it is confirmed; then it acts {when}."
        return f"It acts {when}."


def get_outlook(limit: int | None = None) -> Outlook:
    """That of the configured database, with at most so many backups of each kind."""
    return Outlook(preview(limit=limit), get_standing(), find_next_backup())
