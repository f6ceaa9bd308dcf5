"""Time zones of the IANA's database, by the names that people type."""

from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from app.errors import InvalidInput


def get_zone(name: str) -> ZoneInfo:
    """The time zone of this name. Raises InvalidInput."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInput(
            f"there is no time zone {name[:64]!r}",
            hint="Examples: Europe/Berlin, America/New_York, UTC.",
        ) from error


@cache
def list_zones() -> list[str]:
    """The time zones of this machine."""
    return sorted(available_timezones())
