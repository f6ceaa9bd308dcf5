"""Schedules: added, edited, paused, removed, and read."""

from typing import Any

import pytest

from app.errors import AppError, Conflict, InvalidInput, NotFound
from app.models import Schedule, Task
from app.models.types import now
from app.services.schedules import listing as schedule_listing
from app.services.schedules import service as schedules
from app.services.schedules.times import next_times


def edited(schedule_id: str, **changes: Any) -> Schedule:
    return schedules.edit_schedule(schedule_id, schedules.ScheduleChanges(**changes), by="bob")


def test_they_are_kept_edited_paused_and_removed(context: None):
    made = schedules.add_schedule(
        schedules.NewSchedule("nightly", Task.BACKUP, "0  3 * * *", timezone="Europe/Berlin"),
        created_by="ann",
    )
    assert (made.cron, made.next_due_at) == ("0 3 * * *", next(
        next_times("0 3 * * *", "Europe/Berlin", made.reckoned_at)
    ))  # fmt: skip
    first = made.next_due_at
    for how in ({"cron": "0 4 * * *"}, {"timezone": "UTC"}):
        assert edited(made.id, **how).next_due_at != first
    assert edited(made.id, enabled=False).next_due_at is None
    assert edited(made.id, name="later").next_due_at is None
    assert edited(made.id, enabled=True).next_due_at > now()
    schedules.remove_schedule(made.id, by="bob")
    with pytest.raises(NotFound):
        schedules.get_schedule(made.id)


def test_a_name_is_taken_once(context: None):
    first = schedules.add_schedule(
        schedules.NewSchedule("a", Task.BACKUP, "0 3 * * *"), created_by="ann"
    )
    other = schedules.add_schedule(
        schedules.NewSchedule("b", Task.BACKUP, "0 3 * * *"), created_by="ann"
    )
    with pytest.raises(Conflict, match='"a" already'):
        schedules.add_schedule(
            schedules.NewSchedule(" a ", Task.BACKUP, "0 3 * * *"), created_by="ann"
        )
    with pytest.raises(Conflict, match='"a" already'):
        edited(other.id, name="a")
    for name in ("", " ", "a\nb", "x" * 101):
        with pytest.raises(InvalidInput):
            edited(first.id, name=name)
    with pytest.raises(AppError):
        schedules.add_schedule(
            schedules.NewSchedule("c", Task.BACKUP, "0 3 * * *", notes="x" * 5000), created_by="ann"
        )
    assert [each.name for each in schedules.list_schedules()] == ["a", "b"]


def test_the_first_schedules_are_made_once_for_a_database(context: None):
    schedules.make_first_schedules()
    made = schedules.list_schedules()
    assert [(each.name, each.task) for each in made] == [
        ("daily scrub", Task.SCRUB),
        ("weekly drill", Task.DRILL),
    ]
    assert all(each.next_due_at > now() for each in made)
    for each in made:
        schedules.remove_schedule(each.id, by="ann")
    schedules.make_first_schedules()
    assert schedules.list_schedules() == []


def test_what_came_of_them_is_read(context: None):
    for name, task in (("a", Task.BACKUP), ("b", Task.DRILL), ("c", Task.SCRUB)):
        schedules.add_schedule(schedules.NewSchedule(name, task, "0 3 * * *"), created_by="ann")
    a, b, _ = schedules.list_schedules()
    first, other, last = (schedules.run_now(each.id, by="ann") for each in (a, b, a))
    found = schedules.last_firings(schedules.list_schedules())
    assert {key: each.id for key, each in found.items()} == {a.id: last.id, b.id: other.id}
    assert schedules.last_firings([]) == {}
    assert [each.id for each in schedules.list_firings(a.id)] == [last.id, first.id]
    assert [each.name for each in schedules.list_schedules(after="a", limit=1)] == ["b"]
    assert schedule_listing.find_next_backup() == a.next_due_at
    assert schedule_listing.list_next_times(a)[0] == a.next_due_at
    assert schedule_listing.backups_of([first]) == {}
    assert schedule_listing.restores_of([other]) == set()
    edited(a.id, enabled=False)
    assert schedule_listing.find_next_backup() is None
    a.enabled, a.timezone = True, "Gone/Since"
    assert schedule_listing.list_next_times(a) == []
