"""Hours, days, weeks, months and years in a time zone, and lengths of time as text."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from app.errors import InvalidInput

_UNITS = {"h": 1, "d": 24, "w": 7 * 24}  # hours
_LENGTH = re.compile(r"(?:[0-9]{1,6}[hdw]){1,3}")
_LONGEST = timedelta(days=365 * 100)


@dataclass(frozen=True)
class Period:
    """A kind of time span of the calendar."""

    word: str  # for a backup that is kept for one of them
    plural: str
    _first: Callable[[datetime], datetime]  # when the span of a local time begins, local
    _label: Callable[[datetime], str]

    def start(self, moment: datetime, zone: tzinfo) -> datetime:
        """When the span that contains this moment begins."""
        return self._first(moment.astimezone(zone)).astimezone(UTC)

    def label(self, moment: datetime, zone: tzinfo) -> str:
        """The name of the span: 2026-11-23, 2026-W48."""
        return self._label(moment.astimezone(zone))


def _hour(local: datetime) -> datetime:
    # Keeps the fold: the hour that a clock change repeats is an hour of its own.
    return local.replace(minute=0, second=0, microsecond=0)


def _day(local: datetime) -> datetime:
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def _week(local: datetime) -> datetime:
    return _day(local) - timedelta(days=local.weekday())  # by the calendar, not by 24 hours


def _month(local: datetime) -> datetime:
    return _day(local).replace(day=1)


def _year(local: datetime) -> datetime:
    return _month(local).replace(month=1)


#: By the policy's field.
PERIODS = {
    "keep_hourly": Period("hourly", "hours", _hour, lambda local: f"{local:%Y-%m-%d %H}:00"),
    "keep_daily": Period("daily", "days", _day, lambda local: f"{local:%Y-%m-%d}"),
    "keep_weekly": Period("weekly", "weeks", _week, lambda local: f"{local:%G-W%V}"),
    "keep_monthly": Period("monthly", "months", _month, lambda local: f"{local:%Y-%m}"),
    "keep_yearly": Period("yearly", "years", _year, lambda local: f"{local:%Y}"),
}


def length_of(text: str) -> timedelta:
    """A length of time such as 30d, 12h, 1w2d. Raises InvalidInput."""
    text = text.replace(" ", "").lower()
    if _LENGTH.fullmatch(text):
        parts = re.findall(r"([0-9]+)([hdw])", text)
        length = timedelta(hours=sum(int(number) * _UNITS[unit] for number, unit in parts))
        if timedelta(0) <= length <= _LONGEST:
            return length
    raise InvalidInput(
        "keep within is not a valid length of time, or too long",
        hint="Hours, days or weeks, for example 12h, 30d or 8w; at most 100 years.",
    )


def length_text(length: timedelta) -> str:
    """30d, 12h, 1d12h"""
    days, hours = divmod(int(length.total_seconds()) // 3600, 24)
    return "".join([f"{days}d" * bool(days), f"{hours}h" * bool(hours)]) or "0h"
