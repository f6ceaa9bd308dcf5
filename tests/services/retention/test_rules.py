"""The rules of retention, without a catalogue: by example, by property, and against an oracle."""

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.services.retention.candidate import Candidate
from app.services.retention.periods import PERIODS, length_of, length_text
from app.services.retention.rules import Policy, make_plan

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]

_numbers = count()


def made(ago: timedelta, at: datetime = AT, **facts: object) -> Candidate:
    number = next(_numbers)
    return Candidate(f"id{number:06}", f"backup_{number}.dump", at - ago, **{"size": 10} | facts)


def kept(backups: list[Candidate], policy: Policy, at: datetime = AT, **more: datetime) -> set[str]:
    return {each.backup.id for each in make_plan(backups, policy, at, **more).keeping}


def reasons(backups: list[Candidate], policy: Policy, at: datetime = AT) -> list[str]:
    """Why each is kept, in the order given; "–" for those that go."""
    found = {each.backup.id: each for each in make_plan(backups, policy, at).verdicts}
    told = [found[each.id] for each in backups]
    return ["; ".join(each.reasons) if each.kept else "–" for each in told]


def days(*ago: float, **facts: object) -> list[Candidate]:
    return [made(each * DAY, **facts) for each in ago]


# By example


def test_each_rule_keeps_the_newest_of_each_of_its_last_spans():
    backups = [made(each * HOUR) for each in (0, 1, 11, 13, 35, 36.5, 24 * 23.6, 24 * 400)]
    assert reasons(backups, Policy(keep_last=1)) == [
        "last; the newest good one", *("–",) * 7,
    ]  # fmt: skip
    assert reasons(backups, Policy(keep_daily=2)) == [
        "daily 2026-11-23; the newest good one", "–", "–", "daily 2026-11-22", *("–",) * 4,
    ]  # fmt: skip
    assert reasons(backups, Policy(keep_hourly=2, keep_monthly=2, keep_yearly=2)) == [
        "hourly 2026-11-23 12:00; monthly 2026-11; yearly 2026; the newest good one",
        "hourly 2026-11-23 11:00", "–", "–", "–", "–", "monthly 2026-10", "yearly 2025",
    ]  # fmt: skip
    assert reasons(backups, Policy(keep_weekly=2))[:4] == [
        "weekly 2026-W48; the newest good one", "–", "–", "weekly 2026-W47",
    ]  # fmt: skip


def test_days_and_hours_are_those_of_the_policys_zone():
    backups = [made(13.5 * HOUR), made(11.5 * HOUR)]  # 22:30 and 00:30 in UTC
    assert len(kept(backups, Policy(keep_daily=1, keep_last=1))) == 1
    assert reasons(backups, Policy(keep_daily=2, time_zone="Europe/Berlin"))[1].startswith(
        "daily 2026-11-23"
    )
    assert "fewer than 2 days" in reasons(backups, Policy(keep_daily=2, time_zone="Asia/Tokyo"))[0]


def test_the_hour_that_a_clock_change_repeats_is_an_hour_of_its_own():
    at = datetime(2026, 10, 25, 3, tzinfo=UTC)
    backups = [made(each * HOUR, at) for each in (1.5, 2.5, 3.5)]  # 2:30, 2:30 and 1:30 in Berlin
    policy = Policy(keep_hourly=3, time_zone="Europe/Berlin")
    assert len(kept(backups, policy, at)) == 3


def test_the_oldest_is_kept_until_the_places_are_taken():
    backups = days(0, 1, 2, 40)
    assert reasons(backups, Policy(keep_monthly=3))[3] == (
        "monthly 2026-10; the oldest, while there are fewer than 3 months"
    )
    assert kept(backups, Policy(keep_daily=3)) == {each.id for each in backups[:3]}


def test_keep_within_counts_from_the_newest_so_that_nothing_goes_when_none_are_made():
    backups = days(100, 103, 131)
    policy = Policy(keep_within=30 * DAY)
    assert reasons(backups, policy) == ["the newest good one; within 30d", "within 30d", "–"]


def test_without_a_rule_nothing_goes():
    backups = days(0, 1, 5000)
    assert reasons(backups, Policy()) == ["there is no policy"] * 3
    assert reasons(backups, Policy(keep_last=0, max_total_size=0)) == ["there is no policy"] * 3


def test_a_limit_in_size_takes_the_oldest_first_and_never_the_protected():
    backups = days(0, 1, 2, 3)
    assert reasons(backups, Policy(max_total_size=25)) == [
        "the newest good one; there is room", "there is room", "–", "–",
    ]  # fmt: skip
    backups[3] = replace(backups[3], is_drilled=True)
    assert kept(backups, Policy(max_total_size=25)) == {backups[0].id, backups[3].id}
    assert kept(backups, Policy(max_total_size=1)) == {backups[0].id, backups[3].id}
    backups.append(made(9 * DAY, size=1000, pin="audit"))
    assert kept(backups, Policy(max_total_size=25)) == {
        backups[0].id, backups[3].id, backups[4].id,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"pin": "audit 2025"}, "pinned: audit 2025"),
        ({"is_foreign": True}, "foreign: it was not made here"),
        ({"is_damaged": True}, "its proof failed: a person decides"),
        ({"is_proven": False}, "not read back completely yet"),
    ],
)
def test_what_does_not_count_is_left_alone_and_takes_no_place(facts, why):
    first, second, third = [made(timedelta(0), **facts), *days(1, 2)]
    assert reasons([first, second, third], Policy(keep_last=1)) == [
        why, "last; the newest good one", "–",
    ]  # fmt: skip


def test_what_a_restore_needs_and_the_newest_drilled_one_are_kept():
    backups = [*days(0), *days(1, is_drilled=True), *days(2, is_drilled=True)]
    backups += [made(3 * DAY, hold="being restored"), made(4 * DAY)]
    assert reasons(backups, Policy(keep_last=1)) == [
        "last; the newest good one", "the newest drilled one", "–", "being restored", "–",
    ]  # fmt: skip


def test_a_place_goes_to_the_next_one_where_a_file_is_missing():
    gone, newest, other = [*days(0, is_missing=True), *days(0.1, 0.2)]
    assert reasons([gone, newest, other], Policy(keep_last=1)) == [
        "last, if its file were there", "last; the newest good one", "–",
    ]  # fmt: skip
    assert reasons([gone], Policy(keep_last=1)) == ["there is no good backup"]


def test_after_a_clock_was_set_back_nothing_young_goes_and_the_future_takes_no_place():
    future, *past = days(-300, 0, 0.5, 0.99, 1.01)
    assert reasons([future, *past], Policy(keep_last=1)) == [
        "made in the future of this clock",
        *("last; the newest good one; younger than 24 hours, and the clock was set back",),
        *("younger than 24 hours, and the clock was set back",) * 2,
        "–",
    ]
    assert kept(past, Policy(keep_last=1)) == {past[0].id}
    assert len(kept(past, Policy(keep_last=1), pruned_at=AT + HOUR)) == 3
    assert len(kept(past, Policy(max_total_size=1), pruned_at=AT + HOUR)) == 3


def test_after_a_clock_was_set_ahead_the_last_day_before_stays_for_a_day():
    jump = 4000 * DAY
    before = [made(jump + each * HOUR) for each in (1, 12, 22, 23.5, 26)]
    policy = Policy(keep_within=7 * DAY)
    newest = made(2 * HOUR)
    lost = kept([*before, newest], policy)
    assert [each.id in lost for each in before] == [True, True, True, False, False]
    later = kept([*before, newest, made(-20 * HOUR)], policy, AT + 20 * HOUR)
    assert [each.id in later for each in before] == [True, False, False, False, False]
    after = [made(each * HOUR) for each in (-20, -24)]
    assert kept([*before, newest, *after], policy, AT + 24 * HOUR) == {
        newest.id, *(each.id for each in after),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "d", "30", "-1d", "1.5d", "99999999d", "30m", "1d\n2x", "٣d"])
def test_a_length_of_time_is_hours_days_or_weeks(text: str):
    with pytest.raises(InvalidInput, match="length of time"):
        length_of(text)


def test_lengths_of_time_are_read_and_told():
    for text, length in (("12h", 12 * HOUR), ("1w2d", 9 * DAY), (" 30 D ", 30 * DAY)):
        assert length_of(text) == length
        assert length_of(length_text(length)) == length
    assert length_text(36 * HOUR) == "1d12h"


# By property

# Close together and far apart, around clock changes and the turn of years.
MOMENTS = st.one_of(
    st.integers(-200, 3000).map(lambda hours: AT - hours * HOUR),
    st.integers(0, 60 * 24 * 800).map(lambda minutes: AT - timedelta(minutes=minutes)),
    st.integers(0, 600).map(lambda m: datetime(2026, 10, 25, 4, tzinfo=UTC) - timedelta(minutes=m)),
    st.integers(0, 600).map(lambda m: datetime(2026, 4, 4, 18, tzinfo=UTC) - timedelta(minutes=m)),
)
RARELY = st.integers(0, 9).map(lambda number: number == 0)
BACKUPS = st.lists(
    st.builds(
        made,
        MOMENTS.map(lambda moment: AT - moment),
        size=st.integers(1, 50),
        is_proven=RARELY.map(lambda each: not each),
        is_damaged=RARELY,
        is_drilled=RARELY,
        is_foreign=RARELY,
        is_missing=RARELY,
        pin=RARELY.map(lambda each: "a reason" if each else None),
        hold=RARELY.map(lambda each: "being restored" if each else ""),
    ),
    max_size=40,
)
PLACES = st.one_of(st.none(), st.integers(0, 8))
RULES = {
    "keep_last": PLACES,
    **dict.fromkeys(PERIODS, PLACES),
    "keep_within": st.one_of(st.none(), st.integers(0, 1500).map(lambda hours: hours * HOUR)),
    "time_zone": st.sampled_from(ZONES),
}
POLICIES = st.builds(Policy, **RULES, max_total_size=st.one_of(st.none(), st.integers(0, 500)))
UNLIMITED = st.builds(Policy, **RULES)
TIMES = st.integers(-200, 400).map(lambda hours: AT + hours * HOUR)
PRUNED = st.one_of(st.none(), TIMES)


def is_good(backup: Candidate, at: datetime) -> bool:
    is_ours = backup.is_proven and not backup.is_foreign and backup.pin is None
    return is_ours and not backup.is_damaged and backup.created_at <= at


def oracle(
    backups: list[Candidate], policy: Policy, at: datetime, pruned_at: datetime | None
) -> set[str]:
    """The same rules once more, as slowly and as plainly as can be: who is kept."""
    good = sorted((each for each in backups if is_good(each, at)), key=lambda each: each.key)
    there = [each for each in good if not each.is_missing]
    rules = [getattr(policy, name) for name in ("keep_last", "keep_within", *PERIODS)]
    if not there or not (any(rules) or policy.max_total_size):
        return {each.id for each in backups}
    spared = set() if any(rules) else {each.id for each in good}
    if policy.keep_within:
        newest = there[-1].created_at
        spared |= {e.id for e in good if e.created_at >= newest - policy.keep_within}
    for name in ("keep_last", *PERIODS):
        spared |= _in_places(name, good, there[0], policy)
    clocks = [each.created_at for each in backups] + [pruned_at] * (pruned_at is not None)
    firm = _firm(good, there, at, was_set_back=max(clocks) > at) | _in_a_pause(good, policy, at)
    kept = {each.id for each in backups if each not in good or each.id in spared | firm}
    for each in good:
        total = sum(other.size for other in backups if other.id in kept)
        if not policy.max_total_size or total <= policy.max_total_size:
            break
        if each.id not in firm and not each.is_missing:
            kept.discard(each.id)
    return kept


def _in_places(name: str, good: list[Candidate], oldest: Candidate, policy: Policy) -> set[str]:
    groups: dict[object, list[Candidate]] = defaultdict(list)
    for each in reversed(good):
        groups[_group(name, each, each.created_at.astimezone(ZoneInfo(policy.time_zone)))] += [each]
    spared, places = set(), getattr(policy, name) or 0
    for group in groups.values():
        for each in group if places else []:
            spared.add(each.id)
            if not each.is_missing:
                places -= 1
                break
    return spared | ({oldest.id} if places and name != "keep_last" else set())


def _firm(
    good: list[Candidate], there: list[Candidate], at: datetime, *, was_set_back: bool
) -> set[str]:
    young = [each for each in good if was_set_back and each.created_at >= at - DAY]
    drilled = [each for each in there if each.is_drilled]
    held = [each for each in good if each.hold]
    return {each.id for each in (there[-1], *drilled[-1:], *held, *young)}


def _in_a_pause(good: list[Candidate], policy: Policy, at: datetime) -> set[str]:
    recent = [each.created_at for each in good if each.created_at >= at - DAY]
    old = [each for each in good if each.created_at < at - DAY]
    if not policy.keep_within or not recent or not old:
        return set()
    pause = recent[0] - old[-1].created_at
    limit = min(DAY, policy.keep_within)
    return {e.id for e in old if pause > DAY and at - e.created_at - pause <= limit}


def _group(name: str, backup: Candidate, local: datetime) -> object:
    if name == "keep_hourly":  # by the hours since the last change of the clock's offset
        return local.date(), local.hour, local.utcoffset()
    return {
        "keep_last": backup.id,
        "keep_daily": local.date(),
        "keep_weekly": tuple(local.isocalendar())[:2],
        "keep_monthly": (local.year, local.month),
        "keep_yearly": local.year,
    }[name]


@given(BACKUPS, POLICIES, TIMES, PRUNED)
@settings(max_examples=150, deadline=None)
def test_it_is_what_an_independent_oracle_says(backups, policy, at, pruned_at):
    expected = oracle(backups, policy, at, pruned_at)
    assert kept(backups, policy, at, pruned_at=pruned_at) == expected


@given(BACKUPS, POLICIES, TIMES, PRUNED)
@settings(max_examples=60, deadline=None)
def test_the_last_good_one_and_the_last_drilled_one_never_go(backups, policy, at, pruned_at):
    stays = kept(backups, policy, at, pruned_at=pruned_at)
    there = [each for each in backups if is_good(each, at) and not each.is_missing]
    for some in (there, [each for each in there if each.is_drilled]):
        assert not some or max(some, key=lambda each: each.key).id in stays
    assert {each.id for each in backups if each.pin is not None or each.hold} <= stays
    assert bool(stays) == bool(backups)


@given(BACKUPS, POLICIES, TIMES, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_does_not_matter_and_a_second_time_nothing_goes(backups, policy, at, random):
    shuffled = random.sample(backups, len(backups))
    verdicts = make_plan(backups, policy, at).verdicts
    assert make_plan(shuffled, policy, at).verdicts == verdicts
    left = [each.backup for each in verdicts if each.kept]
    assert kept(left, policy, at) == {each.id for each in left}
    assert all(each.reasons for each in verdicts)


@given(BACKUPS, UNLIMITED, st.sampled_from(["keep_last", "keep_within", *PERIODS]), st.data())
@settings(max_examples=60, deadline=None)
def test_a_laxer_policy_keeps_at_least_as_much(backups, policy, name, data):
    more = data.draw(st.integers(1, 9))
    larger = (getattr(policy, name) or timedelta(0)) + more * DAY if name == "keep_within" else 0
    larger = larger or (getattr(policy, name) or 0) + more
    if policy.has_rules:
        assert kept(backups, policy) <= kept(backups, replace(policy, **{name: larger}))


@given(BACKUPS, UNLIMITED, st.integers(1, 500), st.integers(1, 500))
@settings(max_examples=60, deadline=None)
def test_a_larger_limit_keeps_at_least_as_much(backups, policy, limit, more):
    smaller = kept(backups, replace(policy, max_total_size=limit))
    larger = kept(backups, replace(policy, max_total_size=limit + more))
    assert smaller <= larger <= kept(backups, policy)


@given(BACKUPS, UNLIMITED, TIMES, st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_what_goes_at_a_time_also_goes_later(backups, policy, at, hours):
    assert kept(backups, policy, at + hours * HOUR) <= kept(backups, policy, at)


@given(st.sampled_from(sorted(PERIODS)), st.sampled_from(ZONES), MOMENTS, MOMENTS)
@example("keep_hourly", "Australia/Lord_Howe", AT, AT)
@settings(max_examples=100, deadline=None)
def test_a_span_holds_its_own_moments_and_no_other(name, zone, first, second):
    first, second = sorted((first, second))
    starts = [PERIODS[name].start(each, ZoneInfo(zone)) for each in (first, second)]
    assert starts[0] <= starts[1]
    assert starts[0] <= first
    assert (starts[0] == starts[1]) == (starts[1] <= first)
