"""Do a thing in several ways, in turns, and compare what each way took."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

#: What one run took, by unit: {"s": 5.2, "MB": 190.0}.
Taken = dict[str, float]
Way = Callable[[], Taken]


@dataclass(frozen=True)
class Spread:
    """The median of some values, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Rounds:
    """What each way took in each round."""

    taken: Mapping[str, Sequence[Taken]]

    def values(self, way: str, unit: str) -> list[float]:
        return [taken[unit] for taken in self.taken[way]]

    def quickest(self, *ways: str) -> str:
        """The way that took the fewest seconds, by the median."""
        return min(ways, key=lambda way: statistics.median(self.values(way, "s")))


def interleaved(ways: Mapping[str, Way], rounds: int) -> Rounds:
    """Run every way once in each round, with another one first each time.

    So whatever else the machine does meets all ways alike, and none always profits from
    what the one before it has left in memory.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(ways[name]())
    return Rounds(taken)


@dataclass(frozen=True)
class Aim:
    """A limit of a ratio (×), or of a difference or a value in another unit; None: no limit."""

    limit: float | None = None
    unit: str = "×"
    is_least: bool = False

    def in_words(self) -> str:
        if self.limit is None:
            return "stated"
        return f"{'≥' if self.is_least else '≤'} {self.limit:g} {self.unit}"

    def is_met_by(self, value: float) -> bool | None:
        if self.limit is None:
            return None
        return value >= self.limit if self.is_least else value <= self.limit


@dataclass(frozen=True)
class Row:
    """A line of the table: a claim and what was measured for it."""

    claim: "Claim"
    value: Spread  # in the unit of the aim
    ours: Spread
    theirs: Spread | None
    rounds: int
    remark: str = ""  # of this run

    @property
    def is_met(self) -> bool | None:
        return self.claim.aim.is_met_by(self.value.median)


@dataclass(frozen=True)
class Claim:
    """What is run, against what, in which unit, and what is aimed at."""

    name: str
    ran: str
    against: str
    aim: Aim = field(default_factory=Aim)
    unit: str = "s"
    notes: str = ""

    def row(self, rounds: Rounds, ours: str, theirs: str | None = None, remark: str = "") -> Row:
        """Compare two ways within each round; without `theirs`, our value alone counts."""
        mine = rounds.values(ours, self.unit)
        if theirs is None:
            return Row(self, Spread.of(mine), Spread.of(mine), None, len(mine), remark)
        others = rounds.values(theirs, self.unit)
        pairs = list(zip(mine, others, strict=True))
        is_ratio = self.aim.unit == "×"
        values = [one / other if is_ratio else one - other for one, other in pairs]
        return Row(self, Spread.of(values), Spread.of(mine), Spread.of(others), len(mine), remark)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """The seconds of a block, under "s" when it has ended; more may be added."""
    taken: dict[str, float] = {}
    began = time.monotonic()
    yield taken
    taken["s"] = time.monotonic() - began
