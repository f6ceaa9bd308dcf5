"""The newest good backup is one thing, whoever asks for it."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from app.extensions import db, writing
from app.models import DatabaseBackup, Level, Restore, Result, Status, Task
from app.models.types import now
from app.services.alerts import alarms
from app.services.backups import good, listing
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database
from app.services.health.doctor.dumps import find_newest
from app.services.health.figures import read_figures
from app.services.retention.listing import list_candidates
from app.services.retention.rules import Policy, make_plan
from app.services.schedules import service as schedules
from app.services.schedules import turn
from tests.services.retention.test_prune import made, prove

pytestmark = pytest.mark.usefixtures("context")
DAY = timedelta(days=1)


@pytest.fixture
def shop_url() -> str:
    return "postgresql://ann@127.0.0.1:1/shop"  # whose backups are planted


def by_listing() -> str | None:
    found = good.find_newest_good(default_database())
    return found and found.filename


def by_drill() -> str | None:
    """What a scheduled drill takes."""
    name = f"s{now().timestamp()}"
    made = schedules.add_schedule(
        schedules.NewSchedule(name, Task.DRILL, "0 3 * * *"), created_by="ann"
    )
    schedules.run_now(made.id, by="ann")
    turn.turn()
    with writing() as session:
        drill = session.query(Restore).one_or_none()
        if drill is None:
            return None
        session.delete(drill)
        return drill.filename


def by_alarm() -> str | None:
    alarms.look(now() + 100 * DAY, files=False)
    (alarm,) = [each for each in alarms.list_open() if each.kind.value == "backup-too-old"]
    with writing() as session:
        session.delete(session.merge(alarm))
    told = alarm.body.partition("the newest is ")[2].partition(". One")[0]
    return told or None


def by_doctor() -> str | None:
    told = find_newest().told
    return told.partition(",")[0] if "," in told else None


def by_retention() -> str | None:
    found = make_plan(
        list_candidates(default_database(), now()), Policy(keep_last=1), now()
    ).newest_good
    return found and found.filename


def by_deletion() -> str | None:
    """The one before whose deletion it is told that it is the last."""
    ours = default_database()
    rows = listing.list_backups().backups
    names = [row.filename for row in rows if row.database_id == ours.id]
    return next((each for each in names if good.is_last_good(listing.get_backup(each))), None)


def by_figures() -> str | None:
    ours = default_database()
    known = read_figures().databases
    (moment,) = [figures.last_good for database, figures in known if database.id == ours.id]
    found = db.session.query(DatabaseBackup).filter_by(finished_at=moment).first()
    return found and found.filename


EVERY_WAY = [by_listing, by_drill, by_alarm, by_doctor, by_retention, by_deletion, by_figures]


@pytest.mark.parametrize("ask", EVERY_WAY)
def test_whoever_asks_hears_of_the_same(ask: Callable[[], str | None]):
    right = made(2 * DAY)
    failed, lost, foreign = made(DAY), made(DAY / 2), made(DAY / 3, foreign=True)
    made(DAY / 4, database="other"), made(DAY / 5, status=Status.FAILED)
    prove(failed, Level.RESTORED, Result.FAILED)
    (storage().folder / lost).unlink()
    deleting = made(DAY / 6)
    with writing():
        listing.get_backup(deleting).delete_requested_at = now()
    assert foreign
    assert ask() == right


@pytest.mark.parametrize("ask", EVERY_WAY)
def test_where_none_is_good_nobody_hears_of_one(ask: Callable[[], str | None]):
    damaged = made(DAY)
    prove(damaged, Level.READ, Result.FAILED)
    assert ask() is None


def test_it_is_found_behind_many_that_are_lost():
    right = made(100 * DAY)
    for each in range(45):
        (storage().folder / made(each * DAY)).unlink()
    assert by_listing() == right
