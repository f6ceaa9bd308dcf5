"""What retention looks at: the backups of one database in the order of time."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from humanize import naturalsize

Key = tuple[datetime, str]  # backups are in order by time and id


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completed backup, and what the rules ask about it."""

    id: str
    filename: str
    created_at: datetime
    size: int = 0  # bytes
    is_proven: bool = True  # read back whole, or better
    is_drilled: bool = False
    is_damaged: bool = False  # a proof has failed, and none since has shown it right
    is_missing: bool = False  # its file is not where it should be
    is_foreign: bool = False
    pin: str | None = None  # why it is pinned
    hold: str = ""  # why it is needed just now

    @property
    def key(self) -> Key:
        """Its place among the others."""
        return self.created_at, self.id


class Range(NamedTuple):
    """A stretch of time whose backups are kept, both ends included."""

    since: datetime
    until: datetime
    reason: str
    is_firm: bool = False  # also against the limit in size

    def holds(self, moment: datetime) -> bool:
        return self.since <= moment <= self.until


class Spared(NamedTuple):
    """What the rules keep: stretches of time, and single backups by id."""

    ranges: tuple[Range, ...]
    single: Mapping[str, Candidate]


class Tally(NamedTuple):
    """How many, and how large together."""

    number: int
    size: int  # bytes

    @property
    def in_words(self) -> str:
        """2 backups (1.2 MiB)"""
        backups = "1 backup" if self.number == 1 else f"{self.number:,} backups"
        return f"{backups} ({naturalsize(self.size, binary=True)})"


class Timeline(Protocol):
    """The backups of a database in order; but for `latest` and `total` those that count."""

    def before(self, key: Key | None) -> Candidate | None:
        """The newest one before this place; without one, of all."""

    def after(self, key: Key | None) -> Iterator[Candidate]:
        """Those after this place, oldest first; without one, all."""

    def drilled(self) -> Iterable[Candidate]:
        """Those that were restored in a drill, newest first."""

    def held(self) -> Iterable[Candidate]:
        """Those that are needed just now."""

    def latest(self) -> datetime | None:
        """When the newest of all was made."""

    def total(self) -> Tally:
        """All completed backups."""

    def beyond(self, spared: Spared) -> Tally:
        """Those that are not spared."""

    def spared(self, spared: Spared) -> Iterator[Candidate]:
        """Those that are, oldest first."""


def left_alone(backup: Candidate, at: datetime) -> str:
    """Why no rule is asked about a backup; empty if one is."""
    if backup.pin is not None:
        return f"pinned: {backup.pin}"
    if backup.is_foreign:
        return "foreign: it was not made here"
    if backup.is_damaged:
        return "its proof failed: a person decides"
    if not backup.is_proven:
        return "not read back whole yet"
    return "made in the future of this clock" if backup.created_at > at else ""


class Listed:
    """A timeline of backups in hand, which come oldest first."""

    def __init__(self, backups: Sequence[Candidate], at: datetime) -> None:
        self._all = backups
        self._counting = [each for each in backups if not left_alone(each, at)]
        self._keys = [each.key for each in self._counting]

    def before(self, key: Key | None) -> Candidate | None:
        number = len(self._keys) if key is None else bisect_left(self._keys, key)
        return self._counting[number - 1] if number else None

    def after(self, key: Key | None) -> Iterator[Candidate]:
        number = 0 if key is None else bisect_right(self._keys, key)
        return iter(self._counting[number:])

    def drilled(self) -> Iterator[Candidate]:
        return (each for each in reversed(self._counting) if each.is_drilled)

    def held(self) -> Iterator[Candidate]:
        return (each for each in self._counting if each.hold)

    def latest(self) -> datetime | None:
        return max((each.created_at for each in self._all), default=None)

    def total(self) -> Tally:
        return _tally(self._all)

    def beyond(self, spared: Spared) -> Tally:
        return _tally([each for each in self._counting if not is_in(spared, each)])

    def spared(self, spared: Spared) -> Iterator[Candidate]:
        return (each for each in self._counting if is_in(spared, each))


def is_in(spared: Spared, backup: Candidate) -> bool:
    """Whether a backup is spared."""
    return backup.id in spared.single or any(
        each.holds(backup.created_at) for each in spared.ranges
    )


def _tally(backups: Sequence[Candidate]) -> Tally:
    return Tally(len(backups), sum(each.size for each in backups))
