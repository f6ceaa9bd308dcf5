"""A schedule makes a database anew beside the guarded one, or leaves it exactly as it was."""

import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from app.errors import Conflict, InvalidInput, PostgresError, WrongPassword
from app.extensions import db, writing
from app.models import (
    Delivery,
    Firing,
    Kind,
    Level,
    Notifier,
    Outcome,
    Restore,
    Schedule,
    Task,
    Trigger,
    types,
)
from app.models.types import now
from app.services.backups.listing import get_backup
from app.services.databases.service import add_database
from app.services.proofs import assertions
from app.services.proofs import records as proofs
from app.services.recovery import reconcile
from app.services.restores import run as running
from app.services.restores import scratch, swap
from app.services.restores import service as restores
from app.services.schedules import service as schedules
from app.services.schedules import turn
from app.services.schedules.targets import Consent
from tests.conftest import RESTORED_SLEEPS, Database, url_of
from tests.postgres.conftest import wait_until
from tests.services.restores.conftest import backed_up

pytestmark = pytest.mark.usefixtures("context")

MASK = """
    -- Nobody's name; semicolons are no end here: ;
    UPDATE customers SET name = 'person ' || id || ';';
    DELETE FROM orders WHERE id > 400;
"""


@pytest.fixture
def staging(living: Database) -> Database:
    """The database that the schedule makes; it is not there yet."""
    name = f"{living.name}_staging"
    return Database(name, living.url.replace(living.name, name))


@pytest.fixture
def impatient(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """No SQL may take longer than an instant."""
    settings = replace(app.extensions["backstop.settings"], sql_timeout=0.5)
    monkeypatch.setitem(app.extensions, "backstop.settings", settings)


def consent(typed: str = "") -> Consent:
    return Consent(typed, lambda: None)


def scheduled(staging: Database, typed: str = "", **more: object) -> Schedule:
    new = schedules.NewSchedule("staging", Task.RESTORE, "0 4 * * *", target=staging.name)
    return schedules.add_schedule(replace(new, **more), created_by="ann", consent=consent(typed))


def run(schedule: Schedule) -> tuple[Firing, Restore]:
    """Let it be due, and a worker do all that follows."""
    firing_id = schedules.run_now(schedule.id, by="ann").id
    turn.turn()
    firing = db.session.get_one(Firing, firing_id, populate_existing=True)
    if firing.outcome is Outcome.RUNNING:
        restores.run_restore.call_local(firing.job_id)
        turn.turn()
    firing = db.session.get_one(Firing, firing_id, populate_existing=True)
    return firing, db.session.get(Restore, firing.job_id)


def succeeded(schedule: Schedule) -> Restore:
    firing, row = run(schedule)
    assert row is not None, firing.told
    assert row.is_completed, (row.error_message, row.error_detail, row.log)
    assert firing.outcome is Outcome.COMPLETED
    return row


def names(staging: Database) -> set[str]:
    return {name for (name,) in staging.run("SELECT split_part(name, ' ', 1) FROM customers")}


def oid_of(database: Database) -> int:
    return database.run("SELECT oid FROM pg_database WHERE datname = current_database()")[0][0]


def exists(database: Database, living: Database) -> bool:
    return bool(living.run("SELECT FROM pg_database WHERE datname = %s", database.name))


def proven(filename: str) -> list[Level]:
    return [Level(proof.level) for proof in proofs.list_proofs(get_backup(filename).id)]


def kept(staging: Database, server: object) -> list[str]:
    admin = Database("postgres", url_of(server, "postgres"))
    chosen = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1"
    return [name for (name,) in admin.run(chosen, f"{staging.name}__")]


def test_a_masked_database_appears_beside_and_is_made_anew(staging, living, leftovers, server):
    backed_up()
    schedule = scheduled(staging, sql=MASK)
    first = succeeded(schedule)
    assert (first.kind, first.trigger, first.kept) == (Kind.REFRESH, Trigger.SCHEDULE, None)
    assert names(staging) == {"person"}
    assert staging.run("SELECT count(*) FROM orders") == [(400,)]
    assert names(living) == {"customer"}
    living.run("DELETE FROM orders WHERE id > 100")
    backed_up()
    second = succeeded(schedule)
    assert staging.run("SELECT count(*) FROM orders") == [(100,)]
    assert kept(staging, server) == [second.kept]
    restores.undo_restore(second.id, by="ann")
    assert staging.run("SELECT count(*) FROM orders") == [(400,)]
    succeeded(schedule)  # the older one is its own too
    assert staging.run("SELECT count(*) FROM orders") == [(100,)]
    assert leftovers() == []


#: SQL that fails, and what is told of it: where, and no value of a row.
FAILING = {
    "SELECT 1;\n\nUPDATE customers\nSET id = name::int": (
        "failed at statement 2, line 3",
        "invalid text representation (22P02).",
    ),
    "SET statement_timeout = 0; SELECT pg_sleep(60)": (
        "took longer than 0.5 s, at statement 2, line 1",
        "",
    ),
    "ALTER TABLE customers ADD mail text": ("is not what was backed up", "customers"),
}


@pytest.mark.usefixtures("impatient")
def test_sql_that_fails_leaves_what_was_made_before(staging, living, server, leftovers):
    backed_up()
    schedule = scheduled(staging, sql=MASK)
    succeeded(schedule)
    before = oid_of(staging)
    for sql, (message, detail) in FAILING.items():
        schedules.edit_schedule(schedule.id, schedules.ScheduleChanges(sql=sql), by="ann")
        firing, row = run(schedule)
        assert (firing.outcome, firing.told) == (Outcome.FAILED, row.error_message), sql
        assert message in row.error_message, sql
        assert detail in row.error_detail, sql
        told = f"{row.error_message} {row.error_detail} {row.error_hint} {row.log}"
        assert "customer 1" not in told
    assert oid_of(staging) == before
    assert names(staging) == {"person"}
    assert kept(staging, server) == []
    assert leftovers() == []


def test_an_assertion_that_does_not_hold_keeps_it_back(staging, living, leftovers):
    filename = backed_up()
    with writing() as session:
        session.add(Notifier(id="n", name="n", url="", target="", facts=None))
    assertions.add_assertion("people", "SELECT count(*) > 50 FROM customers", created_by="ann")
    firing, row = run(scheduled(staging, sql=MASK))
    told = "an assertion does not hold in the restored database; the one made before stays"
    assert (firing.outcome, firing.told) == (Outcome.FAILED, told)
    assert row.error_detail == "assertion people: it is false"
    assert [delivery.title for delivery in db.session.scalars(db.select(Delivery))] == [
        "Backstop: Schedule staging failed"
    ]
    assert not exists(staging, living)
    assert leftovers() == []
    # It was masked, or would have been: that says nothing about the backup.
    assert proven(filename) == [Level.READ]


def test_without_sql_it_proves_the_backup(staging):
    filename = backed_up()
    succeeded(scheduled(staging))
    assert proven(filename) == [Level.RESTORED, Level.READ]


def test_without_a_good_backup_it_fails_and_says_so(staging, living):
    firing, row = run(scheduled(staging))
    assert (firing.outcome, row) == (Outcome.FAILED, None)
    assert "there is no good backup" in firing.told
    assert not exists(staging, living)


def test_it_can_be_cancelled_while_its_sql_runs(staging, living, leftovers, app: Flask):
    backed_up()
    schedule = scheduled(staging, sql="SELECT pg_sleep(60)")

    def cancel() -> None:
        wait_until(lambda: living.run(RESTORED_SLEEPS) == [(1,)], "the SQL sleeps")
        with app.app_context():
            (row,) = restores.list_restores(limit=1)
            restores.cancel_restore(row.id, by="bob")

    thread = threading.Thread(target=cancel)
    thread.start()
    _, row = run(schedule)
    thread.join()
    assert row.error_message == "cancelled by bob"
    assert not exists(staging, living)
    assert leftovers() == []


# Which database it may replace


def test_a_database_that_others_made_is_replaced_only_by_its_typed_name(staging, living, server):
    backed_up()
    living.run(f'CREATE DATABASE "{staging.name}"')
    for typed in ("", living.name):
        with pytest.raises(InvalidInput, match="exists already, and this schedule did not make it"):
            scheduled(staging, typed)

    def refuse() -> None:
        raise WrongPassword("the password is wrong")

    new = schedules.NewSchedule("staging", Task.RESTORE, "0 4 * * *", target=staging.name)
    with pytest.raises(WrongPassword):
        schedules.add_schedule(new, created_by="ann", consent=Consent(staging.name, refuse))
    row = succeeded(scheduled(staging, staging.name))
    assert kept(staging, server) == [row.kept]
    restores.undo_restore(row.id, by="ann")
    assert staging.run("SELECT count(*) FROM pg_class WHERE relname = 'customers'") == [(0,)]


def test_a_database_that_others_made_since_is_left_alone(staging, living):
    backed_up()
    schedule = scheduled(staging)
    living.run(f'CREATE DATABASE "{staging.name}"')
    before = oid_of(staging)
    firing, _ = run(schedule)
    assert (firing.outcome, firing.attempts) == (Outcome.FAILED, 1)
    assert "this schedule did not make it" in firing.told
    assert oid_of(staging) == before


def test_what_is_guarded_or_the_servers_own_is_never_a_target(staging, living):
    backed_up()
    schedule = scheduled(staging)
    add_database("old-staging", living.url.replace(living.name, f"{living.name}_2"), by="ann")
    ours, servers = [living.name, f"{living.name}_2"], ["postgres", "template1"]
    for target in (*ours, *servers, "backstop_x", "", "a" * 64):
        with pytest.raises(InvalidInput):
            scheduled(Database(target, ""), target, name="other")
    with pytest.raises(InvalidInput, match=r"schedule staging of .* makes database"):
        scheduled(staging, name="other")
    add_database("staging", staging.url, by="ann")  # guarded from now on
    firing, _ = run(schedule)
    assert "is guarded as staging" in firing.told
    assert not exists(staging, living)


def test_only_a_restore_has_a_target_and_its_sql_is_limited(staging):
    for changes in ({"task": Task.DRILL}, {"sql": "x" * 20_001}, {"sql": "\0"}, {"keep_last": 11}):
        with pytest.raises(InvalidInput):
            scheduled(staging, **changes)


# What is kept


def test_the_oldest_replaced_databases_go_first(staging, server, monkeypatch: pytest.MonkeyPatch):
    backed_up()
    schedule, rows = scheduled(staging, keep_last=1), []
    for minutes in range(3):  # their names tell seconds apart
        later = timedelta(minutes=minutes)
        monkeypatch.setattr(types, "_clock", lambda later=later: datetime.now(UTC) + later)
        rows.append(succeeded(schedule))
    assert kept(staging, server) == [row.kept for row in rows[1:]]
    scratch.sweep()
    assert kept(staging, server) == [rows[2].kept]
    assert rows[2].kept_until > now() + timedelta(days=6)
    with pytest.raises(Exception, match="no replace that can be undone"):
        restores.find_undoable()  # it would not be the one that somebody means


def test_what_fails_after_the_swap_does_not_deny_it(
    staging, living, monkeypatch: pytest.MonkeyPatch
):
    backed_up()
    schedule = scheduled(staging)
    succeeded(schedule)
    living.run("DELETE FROM orders")
    backed_up()
    real = swap._swap

    def late(*args: object) -> float:
        real(*args)
        raise PostgresError("something after it")

    with monkeypatch.context() as patch:
        patch.setattr(swap, "_swap", late)
        row = succeeded(schedule)
    assert staging.run("SELECT count(*) FROM orders") == [(0,)]
    restores.undo_restore(row.id, by="ann")
    assert staging.run("SELECT count(*) FROM orders") == [(500,)]


@pytest.mark.parametrize("is_done", [False, True])
def test_a_worker_that_dies_at_the_swap_leaves_one_or_the_other(
    is_done: bool, staging, living, leftovers, monkeypatch: pytest.MonkeyPatch
):
    backed_up()
    schedule = scheduled(staging)
    succeeded(schedule)
    living.run("DELETE FROM orders")
    backed_up()
    real = swap._swap

    def die(*args: Any) -> float:
        if is_done:
            real(*args)
        raise SystemExit

    firing = schedules.run_now(schedule.id, by="ann")
    turn.turn()
    job = db.session.get_one(Firing, firing.id, populate_existing=True).job_id
    with monkeypatch.context() as killed:
        killed.setattr(swap, "_swap", die)
        killed.setattr(running, "fail_unless_effective", lambda *_: None)
        killed.setattr(scratch, "tidy", lambda *_: None)
        with pytest.raises(SystemExit):
            restores.run_restore.call_local(job)
    with writing() as session:  # a runner of another boot, which is gone
        gone = f"{socket.gethostname()} another-boot - 1 1"
        session.get_one(Restore, job).claimed_by = gone
    reconcile()
    turn.turn()
    firing = db.session.get_one(Firing, firing.id, populate_existing=True)
    another = (Outcome.RUNNING, 2)  # attempt
    ended = firing.outcome, firing.attempts
    assert ended == ((Outcome.COMPLETED, 1) if is_done else another)
    assert staging.run("SELECT count(*) FROM orders") == [(0 if is_done else 500,)]
    assert leftovers() == []


def test_an_undo_sets_no_database_aside_that_others_made(staging, living, server):
    backed_up()
    schedule = scheduled(staging)
    row = [succeeded(schedule) for _ in range(2)][-1]
    living.run(f'DROP DATABASE "{staging.name}" WITH (FORCE)')
    living.run(f'CREATE DATABASE "{staging.name}"')
    before = oid_of(staging)
    schedules.remove_schedule(schedule.id, by="ann")  # no permission goes with it
    with pytest.raises(Conflict, match="no longer one that its schedule made"):
        restores.undo_restore(row.id, by="ann")
    assert oid_of(staging) == before
    assert kept(staging, server) == [row.kept]


def test_a_deleted_schedule_restores_nothing_more(staging, living):
    backed_up()
    schedule = scheduled(staging)
    firing = schedules.run_now(schedule.id, by="ann")
    turn.turn()
    job = db.session.get_one(Firing, firing.id, populate_existing=True).job_id
    schedules.remove_schedule(schedule.id, by="ann")
    restores.run_restore.call_local(job)
    assert "the schedule of this restore was deleted" in restores.get_restore(job).error_message
    assert not exists(staging, living)
