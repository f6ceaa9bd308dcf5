"""What becomes of a due time: drills and scrubs, and the doer that dies."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.extensions import db, writing
from app.models import AuditEntry, Firing, Kind, Level, Outcome, Proof, Result, Task, Trigger, types
from app.models.types import now
from app.services import claims, firings, listing, restores, schedules, scheduling
from tests.services.restores.conftest import backed_up
from tests.services.test_scrubs import make, newest_proof

pytestmark = pytest.mark.usefixtures("context")


def due(task: Task) -> str:
    """A due time that nobody has begun yet."""
    made = schedules.add_schedule("s", task, "0 3 * * *", created_by="ann")
    return schedules.run_now(made.id, by="ann").id


def came_of(firing_id: str) -> tuple[Outcome, int, str]:
    found = db.session.get_one(Firing, firing_id, populate_existing=True)
    db.session.commit()
    return found.outcome, found.attempts, found.told


def recorded() -> list[tuple[str, ...]]:
    """What the audit says."""
    names = "action", "face", "actor", "subject", "outcome", "detail"
    columns = [getattr(AuditEntry, each) for each in names]
    return [tuple(each) for each in db.session.execute(select(*columns).order_by(AuditEntry.id))]


def test_a_drill_takes_the_newest_backup_that_nothing_speaks_against():
    good, bad = backed_up(), backed_up()
    with writing() as session:
        failed = Proof(backup_id=listing.get_backup(bad).id, level=Level.READ, milliseconds=0)
        failed.result = Result.FAILED
        session.add(failed)
    drill = due(Task.DRILL)
    scheduling.turn()
    (asked,) = restores.list_restores()
    assert (asked.filename, asked.kind, asked.trigger) == (good, Kind.DRILL, Trigger.SCHEDULE)
    assert came_of(drill)[0] is Outcome.RUNNING
    with writing():
        asked.complete(now())
    scheduling.turn()
    assert came_of(drill)[:2] == (Outcome.COMPLETED, 1)
    assert recorded() == [("drill.create", "schedule", "s", good, "done", "")]


def test_a_drill_without_a_good_backup_fails_at_once():
    drill = due(Task.DRILL)
    scheduling.turn()
    told = "there is no good backup to drill"
    assert came_of(drill) == (Outcome.FAILED, 1, told)
    assert recorded() == [("drill.create", "schedule", "s", "", "failed", told)]


def test_a_scrub_reads_each_dump_whose_time_has_come():
    old, older, young = make(40), make(50), make(1)
    since = now()
    scrub = due(Task.SCRUB)
    scheduling.turn()
    assert came_of(scrub)[0] is Outcome.WAITING  # a backup must not wait for it
    firings.scrub_due()
    assert came_of(scrub) == (Outcome.COMPLETED, 0, "dumps read: 2")
    for name in (old, older):
        assert newest_proof(name).proved_at > since
    assert newest_proof(young).proved_at < since
    assert recorded() == [("scrub.run", "schedule", "s", "", "done", "dumps read: 2")]
    firings.scrub_due()
    assert came_of(scrub)[0] is Outcome.COMPLETED


def test_a_scrub_whose_doer_died_is_taken_up_again(monkeypatch: pytest.MonkeyPatch):
    filename, scrub = make(40), due(Task.SCRUB)
    with monkeypatch.context() as leaving:
        leaving.setattr(claims, "is_leaving", lambda: True)
        firings.scrub_due()
    assert came_of(scrub)[0] is Outcome.RUNNING
    firings.scrub_due()  # somebody does it, as far as one knows
    assert newest_proof(filename).proved_at < now() - timedelta(days=39)
    later = now() + timedelta(minutes=31)
    monkeypatch.setattr(types, "_clock", lambda: later)
    firings.scrub_due()
    assert came_of(scrub)[::2] == (Outcome.COMPLETED, "dumps read: 1")
