"""The times of schedules in every zone; wrong expressions are refused."""

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.models.types import now
from app.services.schedules.times import checked_times, next_times, preview_times, times_before

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns",
    "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Apia", "America/Santiago",
]  # fmt: skip
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def times(cron: str, zone: str, after: str, number: int) -> list[str]:
    """The next times as the clocks on the wall show them."""
    start = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = islice(next_times(cron, zone, start), number)
    return [f"{each.astimezone(ZoneInfo(zone)):%m-%d %H:%M %z}" for each in found]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # The hour from two to three is missing: once, as soon as there is a clock again.
        (
            "30 2 * * *", "Europe/Berlin", "2026-03-28T00:00",
            ["03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"],
        ),
        (
            "30 2 * * *", "America/New_York", "2026-03-07T12:00",
            ["03-08 03:00 -0400", "03-09 02:30 -0400"],
        ),
        # That hour comes twice: a fixed time once, each hour both times.
        (
            "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00",
            ["10-25 02:30 +0200", "10-26 02:30 +0100"],
        ),
        (
            "30 * * * *", "Europe/Berlin", "2026-10-25T01:00",
            ["10-25 01:30 +0200", "10-25 02:30 +0200", "10-25 02:30 +0100", "10-25 03:30 +0100"],
        ),
        (
            "0 1 * * *", "America/New_York", "2026-10-31T12:00",
            ["11-01 01:00 -0400", "11-02 01:00 -0500"],
        ),
        # Lord Howe goes by half an hour.
        (
            "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00",
            ["10-04 02:30 +1100", "10-05 02:15 +1100"],
        ),
        # Two times of a missing hour fall on the same moment: once.
        (
            "15,45 2 * * *", "Europe/Berlin", "2026-03-29T00:00",
            ["03-29 03:00 +0200", "03-30 02:15 +0200"],
        ),
        ("0 0 30 12 *", "Pacific/Apia", "2011-12-01T00:00", ["12-31 00:00 +1400"]),
    ],
)  # fmt: skip
def test_times_over_a_change_of_clocks(cron: str, zone: str, after: str, expected: list[str]):
    assert times(cron, zone, after, len(expected)) == expected


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    minute=st.sampled_from(["0", "30", "*/20", "15,45", "*"]),
    hour=st.sampled_from(["*", "2", "1-3", "*/6", "0,23"]),
    start=st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001
)
def test_each_time_comes_once_and_wherever_one_begins(
    zone: str, minute: str, hour: str, start: datetime
):
    """Whoever begins in the middle, or looks back, sees the same times."""
    cron = f"{minute} {hour} * * *"
    begin = start.replace(tzinfo=UTC, second=0, microsecond=0)
    end, middle = begin + timedelta(days=3), begin + timedelta(days=1, hours=7)
    found = list(takewhile(lambda each: each <= end, next_times(cron, zone, begin)))
    assert found == sorted(set(found))
    late = takewhile(lambda each: each <= end, next_times(cron, zone, middle))
    assert list(late) == [each for each in found if each > middle]
    back = times_before(cron, zone, end + timedelta(milliseconds=1))
    assert list(takewhile(lambda each: each > begin, back)) == found[::-1]


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    minute=st.integers(0, 59),
    start=st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001
)
def test_a_time_of_each_hour_is_what_the_clock_on_the_wall_shows(
    zone: str, minute: int, start: datetime
):
    """An oracle of its own: look at the clock each minute."""
    begin = start.replace(tzinfo=UTC, second=0, microsecond=0)
    clock = (begin + each * MINUTE for each in range(1, 2 * 24 * 60 + 1))
    expected = [each for each in clock if each.astimezone(ZoneInfo(zone)).minute == minute]
    found = next_times(f"{minute} * * * *", zone, begin)
    assert list(islice(found, len(expected))) == expected


@pytest.mark.parametrize(
    ("cron", "zone", "told"),
    [
        ("", "UTC", "five fields"),
        ("* * * *", "UTC", "five fields"),
        ("0 0 3 * * *", "UTC", "five fields"),
        ("@daily", "UTC", "five fields"),
        ("60 3 * * *", "UTC", "not a valid cron expression"),
        ("0 3 31 2 *", "UTC", "not a valid cron expression"),
        ("* * * * *" + " " * 300 + "x", "UTC", "five fields"),
        ("0 " + "3," * 200 + "3 * * *", "UTC", "five fields"),
        ("0 3 * * *", "Mars/Olympus", "no time zone 'Mars/Olympus'"),
        ("0 3 * * *", "../../etc/passwd", "no time zone"),
        ("0 3 * * *", "", "no time zone"),
        ("0 3 * * *", "a\0b", "no time zone"),
        ("0 3 * * *", "x" * 5000, "no time zone"),
    ],
)
def test_times_that_cannot_be_meant_are_refused(cron: str, zone: str, told: str):
    with pytest.raises(InvalidInput) as raised:
        checked_times(cron, zone)
    assert told in f"{raised.value.message} {raised.value.detail}"


def test_a_preview_tells_words_and_times(context: None):
    words, found = preview_times(" 0  3 * * 1-5 ", "Europe/Berlin")
    assert words == "At 03:00 on Monday through Friday"
    assert len(found) == 5
    assert found[0] > now()
    assert CronSim("0 3 * * 1-5", now()).explain() == words
