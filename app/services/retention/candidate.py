"""A backup as the rules of retention see it, and how backups are counted."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from humanize import naturalsize

Key = tuple[datetime, str]  # backups are ordered by time and id


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completed backup, and the facts that the rules use."""

    id: str
    filename: str
    created_at: datetime
    size: int = 0  # bytes
    is_proven: bool = True  # read back completely, or better
    is_drilled: bool = False
    is_damaged: bool = False  # a proof has failed, and none has passed since
    is_missing: bool = False  # its file is not in the storage
    is_foreign: bool = False
    is_partial: bool = False  # rows of some tables were left out
    pin: str | None = None  # why it is pinned
    hold: str = ""  # why it is needed at the moment

    @property
    def key(self) -> Key:
        """Its place among the others."""
        return self.created_at, self.id

    def exemption(self, at: datetime) -> str:
        """Why no rule applies to it; empty if the rules apply."""
        if self.pin is not None:
            return f"pinned: {self.pin}"
        if self.is_foreign:
            return "foreign: it was not made here"
        if self.is_damaged:
            return "its proof failed: a person decides"
        if not self.is_proven:
            return "not read back completely yet"
        return "made in the future of this clock" if self.created_at > at else ""


class Tally(NamedTuple):
    """A number of backups, and their total size."""

    number: int
    size: int  # bytes

    @classmethod
    def of(cls, backups: Iterable[Candidate]) -> "Tally":
        sizes = [backup.size for backup in backups]
        return cls(len(sizes), sum(sizes))

    @property
    def in_words(self) -> str:
        """2 backups (1.2 MiB)"""
        backups = "1 backup" if self.number == 1 else f"{self.number:,} backups"
        return f"{backups} ({naturalsize(self.size, binary=True)})"
