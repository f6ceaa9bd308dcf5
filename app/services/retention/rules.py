"""Which backups of a database a retention policy keeps, and why: rules without a catalogue.

A backup counts if it was read back completely (level 2) or better, no proof of it has
failed since, it was made here, is not pinned, and does not lie in the future. Any other
backup is left alone, and takes no place from those that count.

`keep_last` keeps the newest; `keep_hourly` to `keep_yearly` keep the newest of each of
the last N hours, days, weeks (from Monday), months and years *that have a backup*, in
the policy's time zone. Any one rule is enough to keep a backup. Until all N places of a
rule are taken, the oldest backup is kept too; otherwise the first monthly backup would be
gone a month later. `keep_within` counts from the newest backup, not from now: when no
more backups are made, none is removed. Without rules all are kept. `max_total_size` then
removes the oldest until the rest fits.

Never removed, whatever the policy says: the newest good backup, the newest backup that
passed a drill, and those that a restore needs.

The clock: backups that lie ahead of `at` are left alone. If there are any, or the last
prune lies ahead, the clock was set back; then nothing is removed that was made less than
24 hours before `at`, the earliest clock that we know of. If more than a day without
backups came before those of the last 24 hours, the clock may have been set ahead;
`keep_within` then ignores that pause, for up to 24 hours. (A jump ahead affects no other
rule.)

The result is idempotent and independent of order. Without a size limit, a laxer policy
keeps at least as much, and so does a larger limit; what is removed at one time is also
removed at any later one.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.services.retention.candidate import Candidate, Key
from app.services.retention.periods import PERIODS, Period, length_text

DAY = timedelta(days=1)
_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)
_NO_LIMIT = 2**63  # bytes

_key = attrgetter("key")


@dataclass(frozen=True)
class Policy:
    """What to keep; None or 0 switches a rule off."""

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
        """Whether any rule says what to keep."""
        return any(getattr(self, field.name) for field in fields(self)[:-2])

    @property
    def is_empty(self) -> bool:
        """Whether it can never remove anything."""
        return not self.has_rules and not self.max_total_size

    def keeps_all_of(self, other: "Policy") -> bool:
        """Whether it certainly removes nothing that the other one keeps.

        Under a size limit, keeping more backups of one kind can push out others.
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
    """What a policy does with the backups of one database at one time."""

    verdicts: list[Verdict]  # newest first
    excess: int  # bytes by which the size limit cannot be met
    newest_good: Candidate | None

    @property
    def removing(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.kept]

    @property
    def keeping(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.kept]


class _Range(NamedTuple):
    """A stretch of time whose backups are kept, both ends included."""

    since: datetime
    until: datetime
    reason: str
    is_firm: bool = False  # holds against the size limit too


def make_plan(
    backups: Iterable[Candidate],
    policy: Policy,
    at: datetime,
    pruned_at: datetime | None = None,
) -> Plan:
    """What to do with the backups of one database; `pruned_at` is the time of the last prune."""
    ordered = sorted(backups, key=_key)
    exempt = {backup.id: why for backup in ordered if (why := backup.exemption(at))}
    counting = [backup for backup in ordered if backup.id not in exempt]
    newest = next((backup for backup in reversed(counting) if not backup.is_missing), None)
    evicted: set[str] = set()
    excess = 0
    if newest is None or policy.is_empty:
        why = "there is no policy" if policy.is_empty else "there is no good backup"
        reasons = {backup.id: [why] for backup in counting}
    else:
        latest = max([pruned_at or at, *(backup.created_at for backup in ordered)])
        ranges = list(_ranges(counting, policy, newest, at, was_set_back=latest > at))
        reasons, firm = _reasons(counting, policy, newest, ranges)
        if policy.max_total_size:
            stays = sum(
                backup.size for backup in ordered if backup.id in reasons or backup.id in exempt
            )
            spared = [
                backup for backup in counting if backup.id in reasons and backup.id not in firm
            ]
            evicted, excess = _evict(spared, stays - policy.max_total_size)

    def verdict(backup: Candidate) -> Verdict:
        if backup.id in exempt:
            return Verdict(backup, True, (exempt[backup.id],))
        if backup.id in evicted:
            return Verdict(backup, False, ("over the size limit",))
        why = tuple(reasons.get(backup.id, ()))
        return Verdict(backup, bool(why), why or ("no rule keeps it",))

    return Plan([verdict(backup) for backup in reversed(ordered)], excess, newest)


def _reasons(
    backups: Sequence[Candidate], policy: Policy, newest: Candidate, ranges: Sequence[_Range]
) -> tuple[dict[str, list[str]], set[str]]:
    """Why backups are kept, by id, and the ids of those that the size limit must spare."""
    reasons: dict[str, list[str]] = defaultdict(list)
    firm = set()
    for backup, why in _places(backups, policy):
        reasons[backup.id].append(why)
    for backup, why in _protected(backups, newest):
        reasons[backup.id].append(why)
        firm.add(backup.id)
    for span in ranges:
        first = bisect_left(backups, span.since, key=attrgetter("created_at"))
        last = bisect_right(backups, span.until, key=attrgetter("created_at"))
        for backup in backups[first:last]:
            reasons[backup.id].append(span.reason)
        firm.update(backup.id for backup in backups[first:last] if span.is_firm)
    return reasons, firm


def _ranges(
    backups: Sequence[Candidate],
    policy: Policy,
    newest: Candidate,
    at: datetime,
    *,
    was_set_back: bool,
) -> Iterator[_Range]:
    if was_set_back:
        yield _Range(at - DAY, _NEVER, "younger than 24 hours, and the clock was set back", True)
    if not policy.has_rules:
        yield _Range(_EVER, _NEVER, "there is room")
    if policy.keep_within:
        since = newest.created_at - min(policy.keep_within, newest.created_at - _EVER)
        yield _Range(since, _NEVER, f"within {length_text(policy.keep_within)}")
        yield from _before_a_pause(backups, policy.keep_within, at)


def _before_a_pause(
    backups: Sequence[Candidate], within: timedelta, at: datetime
) -> Iterator[_Range]:
    """Backups younger than a day if the long pause before the last day does not count."""
    place = bisect_left(backups, at - DAY, key=attrgetter("created_at"))
    if not 0 < place < len(backups):
        return
    last, first = backups[place - 1].created_at, backups[place].created_at
    left = min(DAY, within) - (at - first)
    if first - last > DAY and left > timedelta(0):
        why = "younger than 24 hours, if the clock was set ahead since"
        yield _Range(last - left, last, why, True)


def _places(backups: Sequence[Candidate], policy: Policy) -> Iterator[tuple[Candidate, str]]:
    """Each backup that takes a place of a rule; and those that would if their file were there."""
    zone = ZoneInfo(policy.time_zone)
    yield from _walk(backups, policy.keep_last or 0, lambda backup: (backup.key, "last"))
    for name, period in PERIODS.items():
        places = getattr(policy, name) or 0

        def span(backup: Candidate, period: Period = period) -> tuple[Key, str]:
            word = f"{period.word} {period.label(backup.created_at, zone)}"
            return (period.start(backup.created_at, zone), ""), word

        taken = 0
        for backup, why in _walk(backups, places, span):
            taken += not backup.is_missing
            yield backup, why
        oldest = next((backup for backup in backups if not backup.is_missing), None)
        if taken < places and oldest is not None:
            yield oldest, f"the oldest, while there are fewer than {places} {period.plural}"


def _walk(
    backups: Sequence[Candidate], places: int, span: Callable[[Candidate], tuple[Key, str]]
) -> Iterator[tuple[Candidate, str]]:
    """The newest backup of each span, from the newest span on; `span` says where it begins."""
    end = len(backups)
    while places and end:
        backup = backups[end - 1]
        start, why = span(backup)
        if backup.is_missing:
            yield backup, f"{why}, if its file were there"
            end -= 1
        else:
            yield backup, why
            end = bisect_left(backups, start, key=_key)
            places -= 1


def _protected(backups: Sequence[Candidate], newest: Candidate) -> Iterator[tuple[Candidate, str]]:
    yield newest, "the newest good one"
    drilled = (
        backup for backup in reversed(backups) if backup.is_drilled and not backup.is_missing
    )
    for backup in islice(drilled, 1):
        yield backup, "the newest drilled one"
    for backup in backups:
        if backup.hold:
            yield backup, backup.hold


def _evict(oldest_first: Iterable[Candidate], excess: int) -> tuple[set[str], int]:
    """What the size limit removes, and by how many bytes it is still exceeded."""
    evicted = set()
    for backup in oldest_first:
        if excess <= 0:
            break
        if not backup.is_missing:
            evicted.add(backup.id)
            excess -= backup.size
    return evicted, max(excess, 0)
