"""Which backups of a database a retention policy keeps, and why: rules without a catalogue.

A backup counts if it was read back whole (level 2) or better, no proof of it has
failed since, it is ours, not pinned, and not of the future. What does not count
is left alone, and takes no place from another.

`keep_last` keeps the newest; `keep_hourly` to `keep_yearly` the newest one of each
of the last so many hours, days, weeks (from Monday), months and years *that have a
backup*, in the policy's time zone. Each rule is asked by itself, and one is enough.
While there are fewer than that, the oldest backup is kept too: else a monthly one
would be missed a month after the first. `keep_within` counts from the newest
backup, not from now: where none are made any more, none goes. No rule at all keeps
all. `max_total_size` then removes the oldest until the rest fits.

Never removed, whatever the policy says: the newest good backup, the newest that
was drilled, and those that a restore needs.

The clock: what lies ahead of `at` is left alone. If anything does, or the last
prune did, the clock was set back: nothing goes then that was made less than 24
hours before `at`, the earliest clock that we know of. If more than a day without
backups came before those of the last 24 hours, the clock may have been set ahead:
`keep_within` then counts as if that pause had not been, for up to 24 hours. (A jump
ahead touches no other rule.)

Idempotent, independent of order. Without a limit in size a laxer policy keeps at
least as much, and so does a larger limit; what goes at a time also goes at a later one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import attrgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.services.retention.periods import PERIODS, Period, length_text
from app.services.retention.timelines import (
    Candidate,
    Key,
    Listed,
    Range,
    Spared,
    Timeline,
    left_alone,
)

DAY = timedelta(days=1)
_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)
_NO_LIMIT = 2**63  # bytes


@dataclass(frozen=True)
class Policy:
    """What is to be kept; what is None or 0 asks nothing."""

    keep_last: int | None = None
    keep_hourly: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None
    keep_within: timedelta | None = None
    max_total_size: int | None = None  # bytes
    time_zone: str = "UTC"

    @property
    def has_rules(self) -> bool:
        """Whether it says what to keep."""
        return any(getattr(self, each.name) for each in fields(self)[:-2])

    @property
    def is_empty(self) -> bool:
        """Whether nothing can ever go by it."""
        return not self.has_rules and not self.max_total_size

    def keeps_all_of(self, other: "Policy") -> bool:
        """Whether it surely removes nothing that the other one keeps.

        Beside a limit in size, more that is kept of one kind can push out another.
        """
        if self.is_empty:
            return True
        if other.is_empty:
            return False
        same_rules = replace(self, max_total_size=other.max_total_size) == other
        if self.max_total_size:
            return same_rules and self.max_total_size >= (other.max_total_size or _NO_LIMIT)
        if not other.has_rules or self.time_zone != other.time_zone:
            return same_rules
        if (self.keep_within or timedelta(0)) < (other.keep_within or timedelta(0)):
            return False
        counts = ("keep_last", *PERIODS)
        return all((getattr(self, name) or 0) >= (getattr(other, name) or 0) for name in counts)


class Verdict(NamedTuple):
    """Whether a backup is kept, and why or why not."""

    backup: Candidate
    kept: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a policy makes of the backups of one database at one time."""

    at: datetime
    spared: Spared  # by the rules
    reasons: Mapping[str, Sequence[str]]  # of single backups, by id
    evicted: Mapping[str, int]  # spared by the rules, but too much; sizes by id
    excess: int  # bytes by which the limit cannot be met
    newest_good: Candidate | None

    def verdict(self, backup: Candidate) -> Verdict:
        """What becomes of a backup."""
        alone = left_alone(backup, self.at)
        if alone:
            return Verdict(backup, True, (alone,))
        if backup.id in self.evicted:
            return Verdict(backup, False, ("over the limit in size",))
        ranges = [each.reason for each in self.spared.ranges if each.holds(backup.created_at)]
        reasons = (*self.reasons.get(backup.id, ()), *ranges)
        return Verdict(backup, bool(reasons), reasons or ("no rule keeps it",))


def plan(
    backups: Iterable[Candidate],
    policy: Policy,
    at: datetime,
    pruned_at: datetime | None = None,
) -> list[Verdict]:
    """What becomes of each of these backups of one database, newest first.

    `pruned_at` is when they were pruned last.
    """
    found = sorted(backups, key=attrgetter("key"))
    decided = decide(Listed(found, at), policy, at, pruned_at)
    return [decided.verdict(each) for each in reversed(found)]


def decide(
    timeline: Timeline, policy: Policy, at: datetime, pruned_at: datetime | None = None
) -> Plan:
    """What becomes of the backups of a timeline; it looks at few of them only."""
    newest = _newest_there(timeline)
    if newest is None or policy.is_empty:
        why = "there is no policy" if policy.is_empty else "there is no good backup besides"
        spared = Spared((Range(_EVER, _NEVER, why),), {})
        return Plan(at, spared, {}, {}, 0, newest)
    ranges = tuple(_ranges(timeline, policy, newest, at, pruned_at))
    reasons = defaultdict(list)
    protected = list(_protected(timeline, newest))
    single = {}
    for backup, why in chain(_places(timeline, policy), protected):
        reasons[backup.id].append(why)
        single[backup.id] = backup
    spared = Spared(ranges, single)
    firm = {backup.id for backup, _ in protected}
    evicted, excess = _evicted(timeline, policy, spared, firm)
    return Plan(at, spared, reasons, evicted, excess, newest)


def _newest_there(timeline: Timeline) -> Candidate | None:
    """The newest one that has its file."""
    backup = timeline.before(None)
    while backup is not None and backup.is_missing:
        backup = timeline.before(backup.key)
    return backup


def _ranges(
    timeline: Timeline,
    policy: Policy,
    newest: Candidate,
    at: datetime,
    pruned_at: datetime | None,
) -> Iterator[Range]:
    latest = max(filter(None, [timeline.latest(), pruned_at]), default=at)
    if latest > at:
        yield Range(at - DAY, _NEVER, "younger than 24 hours, and the clock was set back", True)
    if not policy.has_rules:
        yield Range(_EVER, _NEVER, "there is room")
    if policy.keep_within:
        since = newest.created_at - min(policy.keep_within, newest.created_at - _EVER)
        yield Range(since, _NEVER, f"within {length_text(policy.keep_within)}")
        yield from _before_a_pause(timeline, policy.keep_within, at)


def _before_a_pause(timeline: Timeline, within: timedelta, at: datetime) -> Iterator[Range]:
    """What is younger than a day if the long pause before the last day is not counted."""
    last = timeline.before((at - DAY, ""))
    first = last and next(timeline.after(last.key), None)
    if last is None or first is None or first.created_at - last.created_at <= DAY:
        return
    left = min(DAY, within) - (at - first.created_at)
    if left > timedelta(0):
        why = "younger than 24 hours, if the clock was set ahead since"
        yield Range(last.created_at - left, last.created_at, why, True)


def _places(timeline: Timeline, policy: Policy) -> Iterator[tuple[Candidate, str]]:
    """Each backup that takes a place of a rule; and those that would, were their file there."""
    zone = ZoneInfo(policy.time_zone)
    yield from _walk(timeline, policy.keep_last or 0, lambda each: (each.key, "last"))
    for name, period in PERIODS.items():
        places = getattr(policy, name) or 0

        def step(backup: Candidate, period: Period = period) -> tuple[Key, str]:
            told = f"{period.word} {period.label(backup.created_at, zone)}"
            return (period.start(backup.created_at, zone), ""), told

        taken = 0
        for backup, why in _walk(timeline, places, step):
            taken += not backup.is_missing
            yield backup, why
        there = (each for each in timeline.after(None) if not each.is_missing)
        if taken < places and (oldest := next(there, None)) is not None:
            yield oldest, f"the oldest, while there are fewer than {places} {period.plural}"


def _walk(
    timeline: Timeline, places: int, step: Callable[[Candidate], tuple[Key, str]]
) -> Iterator[tuple[Candidate, str]]:
    """From the newest on, with steps that tell where the next place begins."""
    key: Key | None = None
    while places and (backup := timeline.before(key)) is not None:
        following, why = step(backup)
        if backup.is_missing:
            yield backup, f"{why}, were its file there"
            key = backup.key
        else:
            yield backup, why
            key = following
            places -= 1


def _protected(timeline: Timeline, newest: Candidate) -> Iterator[tuple[Candidate, str]]:
    yield newest, "the newest good one"
    drilled = next((each for each in timeline.drilled() if not each.is_missing), None)
    if drilled is not None:
        yield drilled, "the newest drilled one"
    for backup in timeline.held():
        yield backup, backup.hold


def _evicted(
    timeline: Timeline, policy: Policy, spared: Spared, firm: set[str]
) -> tuple[dict[str, int], int]:
    """What goes for the limit in size, and by how many bytes that is still not met."""
    if not policy.max_total_size:
        return {}, 0
    excess = timeline.total().size - timeline.beyond(spared).size - policy.max_total_size
    evicted = {}
    firmly = [each for each in spared.ranges if each.is_firm]
    for backup in timeline.spared(spared):
        if excess <= 0:
            break
        is_firm = backup.id in firm or any(each.holds(backup.created_at) for each in firmly)
        if not is_firm and not backup.is_missing:
            evicted[backup.id] = backup.size
            excess -= backup.size
    return evicted, max(excess, 0)
