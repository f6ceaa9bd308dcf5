"""The days of the overview, in the time zone of whoever looks."""

from datetime import UTC, datetime

import pytest

from app.extensions import writing
from app.models import Firing, Outcome, Schedule, Task
from app.models import types as clocks
from app.services.databases.lookup import default_database
from app.services.health.days import SHOWN, DayState, days_of
from app.zones import get_zone

pytestmark = pytest.mark.usefixtures("context")

#: Clocks are set back in Berlin on 25 October at 01:00 UTC.
NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _in_november(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "_clock", lambda: NOW)


def verified_days(due: list[str], zone: str) -> list[str]:
    """The days that are verified if backups were due, and completed, at these times of UTC."""
    of = default_database().id
    with writing() as session:
        nightly = Schedule(
            database_id=of, name="nightly", task=Task.BACKUP, cron="0 3 * * *",
            timezone="UTC", created_by="ann",
        )  # fmt: skip
        session.add(nightly)
        session.flush()
        session.add_all(
            Firing(
                schedule_id=nightly.id,
                due_at=datetime.fromisoformat(moment).replace(tzinfo=UTC),
                outcome=Outcome.COMPLETED,
            )
            for moment in due
        )
    days = days_of([of], get_zone(zone))[of]
    assert len(days) == SHOWN
    return [day.date.isoformat() for day in days if day.state is DayState.VERIFIED]


def test_days_begin_at_midnight_of_the_zone_before_and_after_its_clocks_are_set():
    due = ["2026-10-23T22:30", "2026-10-25T00:30", "2026-10-25T22:30", "2026-11-01T23:30"]
    assert verified_days(due, "Europe/Berlin") == ["2026-10-24", "2026-10-25", "2026-11-02"]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("UTC", "2026-11-05"),
        ("Pacific/Kiritimati", "2026-11-06"),
        ("America/Los_Angeles", "2026-11-05"),
        ("Asia/Kathmandu", "2026-11-06"),
    ],
)
def test_one_moment_lies_on_different_days(zone: str, day: str):
    assert verified_days(["2026-11-05T20:00"], zone) == [day]


def test_the_first_day_begins_at_its_own_midnight():
    due = ["2026-10-11T21:59", "2026-10-11T22:01"]
    assert verified_days(due, "Europe/Berlin") == ["2026-10-12"]
