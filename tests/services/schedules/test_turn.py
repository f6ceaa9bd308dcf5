"""What a turn of the scheduler costs, and whose schedules it follows.

What it does with one is shown in simulated time.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from app.errors import Conflict
from app.extensions import db
from app.models import Database, DatabaseBackup, Firing, Outcome, Task
from app.models.types import now
from app.services.databases import lookup
from app.services.databases import service as databases
from app.services.schedules import service as schedules
from app.services.schedules import turn
from tests.api.test_schedules import planted_schedules
from tests.services.health.test_figures import counting

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_a_turn_asks_no_more_with_many_schedules_than_with_few(app: Flask, context: None):
    at = now()  # before any of them is due

    def asked() -> int:
        with counting() as sent:
            turn.turn(at)
        return len(sent)

    planted_schedules(app, 2)
    few = asked()
    planted_schedules(app, 50, firings=10, prefix="t")
    assert asked() == few < 20


def followed(at: datetime, turns: int = 3) -> list[Firing]:
    """What was fired by the turns of some days after `at`."""
    for day in range(1, turns + 1):
        turn.turn(at + day * DAY)
    fired = list(db.session.scalars(select(Firing)))
    db.session.commit()
    return fired


@pytest.mark.parametrize(
    "stop", [databases.pause_database, databases.retire_database], ids=["paused", "retired"]
)
def test_schedules_of_an_inactive_database_move_on_and_are_not_caught_up(
    context: None, stop: Callable[..., Database]
):
    crm = databases.add_database("crm", "postgresql://u:p@127.0.0.1:1/crm", by="ann")
    daily = schedules.NewSchedule("daily", Task.BACKUP, "0 3 * * *")
    schedule = schedules.add_schedule(daily, of=crm, created_by="ann")
    at = now()
    stop("crm", by="ann")
    assert followed(at) == []
    moved = schedules.get_schedule(schedule.id).next_due_at
    assert moved is not None
    assert at + 3 * DAY < moved <= at + 4 * DAY
    databases.resume_database("crm", by="ann")
    turn.turn(moved - HOUR)
    assert db.session.scalars(select(Firing)).all() == []
    turn.turn(moved)
    (fired,) = db.session.scalars(select(Firing)).all()
    assert (fired.due_at, fired.missed, fired.told) == (moved, 0, "")
    assert (backup := db.session.scalars(select(DatabaseBackup)).one()).database_id == crm.id
    assert backup.is_pending


def test_each_database_is_backed_up_by_its_own_schedules(context: None):
    crm = databases.add_database("crm", "postgresql://u:p@127.0.0.1:1/crm", by="ann")
    daily = schedules.NewSchedule("daily", Task.BACKUP, "0 3 * * *")
    for database in (None, crm):
        schedules.add_schedule(daily, of=database, created_by="ann")
    assert len(followed(now(), turns=1)) == 2
    backups = db.session.scalars(select(DatabaseBackup)).all()
    assert {backup.database_id for backup in backups} == {crm.id, lookup.default_database().id}


def test_schedules_of_a_database_that_the_environment_no_longer_names_wait(
    make_app: Callable[..., Flask], context: None
):
    daily = schedules.NewSchedule("daily", Task.BACKUP, "0 3 * * *")
    schedule = schedules.add_schedule(daily, created_by="ann")
    with make_app(database_url="postgresql://u:p@db2/shop").app_context():
        assert followed(now()) == []
        assert schedules.get_schedule(schedule.id).next_due_at == schedule.next_due_at
        with pytest.raises(Conflict, match="so no schedule of it runs"):
            schedules.run_now(schedule.id, by="ann")


def test_no_schedule_of_an_inactive_database_is_run_by_hand(context: None):
    crm = databases.add_database("crm", "postgresql://u:p@127.0.0.1:1/crm", by="ann")
    daily = schedules.NewSchedule("daily", Task.BACKUP, "0 3 * * *")
    schedule = schedules.add_schedule(daily, of=crm, created_by="ann")
    databases.pause_database("crm", by="ann")
    with pytest.raises(Conflict, match="crm is paused") as error:
        schedules.run_now(schedule.id, by="ann")
    assert "flask database resume crm" in error.value.hint
    databases.resume_database("crm", by="ann")
    assert schedules.run_now(schedule.id, by="ann").outcome is Outcome.WAITING
