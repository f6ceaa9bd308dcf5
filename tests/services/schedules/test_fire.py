"""What becomes of a due time: drills and scrubs, and the doer that dies."""

import socket
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.config import settings
from app.errors import StorageError
from app.extensions import db, writing
from app.models import (
    AuditEntry,
    DatabaseBackup,
    Delivery,
    Firing,
    Kind,
    Level,
    Notifier,
    Outcome,
    Proof,
    Result,
    Task,
    Trigger,
    types,
)
from app.models.types import now
from app.queue import restores_queue
from app.services.alerts import alarms
from app.services.backups import listing
from app.services.backups import service as backups
from app.services.databases.lookup import default_database
from app.services.jobs import claims
from app.services.proofs import scrub as scrubs
from app.services.recovery import reconcile
from app.services.restores import run as restore_run
from app.services.restores import service as restores
from app.services.retention import policies
from app.services.retention.rules import Policy
from app.services.schedules import scrubs as scrub_firings
from app.services.schedules import service as schedules
from app.services.schedules import turn
from tests.services.proofs.test_scrub import make, newest_proof
from tests.services.restores.conftest import backed_up

pytestmark = pytest.mark.usefixtures("context")


def due(task: Task, name: str = "s") -> str:
    """A due time that nobody has begun yet."""
    made = schedules.add_schedule(schedules.NewSchedule(name, task, "0 3 * * *"), created_by="ann")
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
    turn.turn()
    (asked,) = restores.list_restores()
    assert (asked.filename, asked.kind, asked.trigger) == (good, Kind.DRILL, Trigger.SCHEDULE)
    assert came_of(drill)[0] is Outcome.RUNNING
    with writing():
        asked.complete(now())
    turn.turn()
    assert came_of(drill)[:2] == (Outcome.COMPLETED, 1)
    assert recorded() == [("drill.create", "schedule", "s", good, "done", "")]


def test_what_retention_does_after_a_scheduled_backup_is_in_its_result():
    backed_up()
    policies.set_policy(Policy(keep_last=1), by="ann")
    for name, told in (("a", "retention would remove 1 "), ("b", "retention removed 2 ")):
        nightly = due(Task.BACKUP, name)
        turn.turn()
        backups.run_backup.call_local(listing.list_backups(limit=1).backups[0].id)
        turn.turn()
        restores_queue.execute(restores_queue.dequeue())
        assert came_of(nightly)[2].startswith(told)
        policies.confirm_policy(policies.get_policy(), by="ann")


def test_a_drill_without_a_good_backup_fails_at_once():
    drill = due(Task.DRILL)
    turn.turn()
    told = f"there is no good backup of {default_database().name} yet"
    assert came_of(drill) == (Outcome.FAILED, 1, told)
    assert recorded() == [("drill.create", "schedule", "s", "", "failed", told)]


def test_a_scrub_reads_each_dump_whose_time_has_come():
    old, older, young = make(40), make(50), make(1)
    since = now()
    scrub = due(Task.SCRUB)
    turn.turn()
    assert came_of(scrub)[0] is Outcome.WAITING  # a backup must not wait for it
    scrub_firings.scrub_due()
    assert came_of(scrub) == (Outcome.COMPLETED, 0, "dumps read: 2")
    for name in (old, older):
        assert newest_proof(name).proved_at > since
    assert newest_proof(young).proved_at < since
    assert recorded() == [("scrub.run", "schedule", "s", "", "done", "dumps read: 2")]
    scrub_firings.scrub_due()
    assert came_of(scrub)[0] is Outcome.COMPLETED


def test_a_scrub_that_lasts_stays_with_who_does_it(monkeypatch: pytest.MonkeyPatch):
    """Also within one dump: nobody else takes it, or another scrub, meanwhile."""
    make(40), make(50)
    scrub, other = due(Task.SCRUB), due(Task.SCRUB, "other")
    monkeypatch.setattr(scrub_firings, "_RENEW_EVERY", 0.0)
    began, asked = now(), []

    def look_in(dump: object, on_tick: Callable[[], None]) -> list[str]:
        on_tick()
        asked.append(db.session.get_one(Firing, scrub, populate_existing=True).next_attempt_at)
        db.session.commit()
        assert scrub_firings._take_scrub(scrub, now() + timedelta(minutes=4)) is None
        assert scrub_firings._take_scrub(other, now()) is None
        return []

    monkeypatch.setattr(scrubs, "_differences", look_in)
    scrub_firings.scrub_due(began)
    assert asked == sorted(set(asked))  # renewed for each
    assert len(asked) == 2
    assert came_of(scrub)[::2] == (Outcome.COMPLETED, "dumps read: 2")


def test_a_scrub_that_another_worker_has_taken_is_given_up(monkeypatch: pytest.MonkeyPatch):
    filename, scrub = make(40), due(Task.SCRUB)
    monkeypatch.setattr(scrub_firings, "_RENEW_EVERY", 0.0)

    def sleep(dump: object, on_tick: Callable[[], None]) -> list[str]:
        assert scrub_firings._take_scrub(scrub, now() + timedelta(minutes=6)) is not None
        on_tick()
        raise AssertionError("it goes on")

    monkeypatch.setattr(scrubs, "_differences", sleep)
    scrub_firings.scrub_due()
    assert came_of(scrub)[0] is Outcome.RUNNING
    assert newest_proof(filename).proved_at < now() - timedelta(days=39)


def test_a_scrub_that_was_not_possible_says_so_once_and_fails_nothing():
    filename, scrub = make(40), due(Task.SCRUB)
    (settings().backup_dir / filename).unlink()
    scrub_firings.scrub_due()
    outcome, _, told = came_of(scrub)
    assert outcome is Outcome.NOT_POSSIBLE
    assert told.startswith(f"dumps read: 0; not possible: 1, such as {filename}: ")
    assert recorded()[-1][4] == "refused"
    alarms.look(now(), files=False)
    assert alarms.list_open() == []


def test_a_drill_that_was_not_possible_raises_no_alarm_of_a_failure(
    monkeypatch: pytest.MonkeyPatch,
):
    def no_disk(*_: object) -> None:
        raise StorageError("the disk is away")

    filename = backed_up()
    monkeypatch.setattr(restore_run, "_check_dump", no_disk)
    with writing() as session:
        session.add(Notifier(id="n", name="n", url="", target="", facts=None))
    made = schedules.add_schedule(
        schedules.NewSchedule("s", Task.DRILL, "0 3 * * *"), created_by="ann"
    )
    for minute in range(2):
        drill = schedules.run_now(made.id, by="ann").id
        turn.turn()
        restores.run_restore.call_local(restores.list_restores()[0].id)
        turn.turn()
        assert came_of(drill)[0] is Outcome.NOT_POSSIBLE, minute
    assert newest_proof(filename).result is Result.NOT_POSSIBLE
    alarms.look(now(), files=False)
    assert alarms.list_open() == []
    told = [tuple(each) for each in db.session.execute(select(Delivery.fact, Delivery.title))]
    assert told == [("not-possible", "Backstop: Schedule s was not possible")]


def test_a_backup_whose_worker_died_is_made_again_at_once():
    firing = due(Task.BACKUP)
    turn.turn()
    for pause in (timedelta(0), timedelta(minutes=5)):
        (first, *_) = listing.list_backups().backups
        assert claims.claim(first.id)
        with writing() as session:  # a runner of another boot, which is gone
            gone = f"{socket.gethostname()} another-boot - 1 1"
            session.get_one(DatabaseBackup, first.id).claimed_by = gone
        reconcile()
        turn.turn()
        found = db.session.get_one(Firing, firing, populate_existing=True)
        db.session.commit()
        assert found.outcome is Outcome.WAITING or not pause
        if pause:
            assert found.next_attempt_at is not None
            assert found.next_attempt_at > now() + timedelta(minutes=4)
            assert "was interrupted" in found.told
        else:
            turn.turn()
            assert came_of(firing)[:2] == (Outcome.RUNNING, 2)


def test_a_scrub_whose_doer_died_is_taken_up_again(monkeypatch: pytest.MonkeyPatch):
    filename, scrub = make(40), due(Task.SCRUB)
    with monkeypatch.context() as leaving:
        leaving.setattr(claims, "is_leaving", lambda: True)
        scrub_firings.scrub_due()
    assert came_of(scrub)[0] is Outcome.RUNNING
    scrub_firings.scrub_due()  # somebody does it, as far as one knows
    assert newest_proof(filename).proved_at < now() - timedelta(days=39)
    later = now() + timedelta(minutes=6)
    monkeypatch.setattr(types, "_clock", lambda: later)
    scrub_firings.scrub_due()
    assert came_of(scrub)[::2] == (Outcome.COMPLETED, "dumps read: 1")
