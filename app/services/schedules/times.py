"""The times of a schedule, from a cron expression and a time zone.

They are those of Debian's cron, as cronsim computes them: where a clock is set
forward, a job of the missing hour runs right after it; where it is set back, a job
at a fixed time runs once, and a job of each hour or minute in both hours.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from app.errors import InvalidInput
from app.models.types import now
from app.zones import get_zone

MAX_CRON = 255  # characters

_FIELDS = 5  # minute, hour, day of the month, month, day of the week
Preview = tuple[str, list[datetime]]  # in words, and the next times

_EXAMPLE = "For example: 0 3 * * * is every night at three."


def next_times(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """The times after a moment, in UTC, each once and in order."""
    last = after
    for time in CronSim(cron, after.astimezone(ZoneInfo(timezone))):
        moment = time.astimezone(UTC)
        if moment > last:  # two of a missing hour fall on the same moment
            yield (last := moment)


def times_before(cron: str, timezone: str, before: datetime) -> Iterator[datetime]:
    """The times before a moment, in UTC, the latest first."""
    last = before
    for time in CronSim(cron, before.astimezone(ZoneInfo(timezone)), reverse=True):
        moment = time.astimezone(UTC)
        if moment < last:
            yield (last := moment)


def preview_times(cron: str, timezone: str, number: int = 5) -> Preview:
    """A schedule in words, and its next times in UTC. Raises InvalidInput."""
    cron, timezone = checked_times(cron, timezone)
    return in_words(cron), list(islice(next_times(cron, timezone, now()), number))


@lru_cache(1_000)
def in_words(cron: str) -> str:
    """A cron expression in words."""
    return str(CronSim(cron, datetime.now(UTC)).explain())


def checked_times(cron: str, timezone: str) -> tuple[str, str]:
    """Expression and time zone as they are kept. Raises InvalidInput."""
    cron, timezone = " ".join(cron.split()), timezone.strip()
    if len(cron) > MAX_CRON or len(cron.split()) != _FIELDS:
        raise InvalidInput(
            "a cron expression has five fields: minute, hour, day of the month, month, weekday",
            hint=_EXAMPLE,
        )
    zone = get_zone(timezone)
    try:
        next(CronSim(cron, datetime.now(zone)))
    except CronSimError as error:
        raise InvalidInput(
            "not a valid cron expression",
            detail=f"{error}.",
            hint=_EXAMPLE,
        ) from error
    except StopIteration as error:
        raise InvalidInput("this cron expression has no next time") from error
    return cron, timezone
