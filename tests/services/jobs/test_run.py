"""A run while it lasts: it tells its progress, and hears that it shall end."""

import time
from collections.abc import Callable
from datetime import timedelta

import psutil
import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.config import settings as current_settings
from app.errors import Conflict, DumpError, Interrupted, NotFound, PostgresError
from app.extensions import db, writing
from app.models import DatabaseBackup, Result, Status, Trigger
from app.models.types import now
from app.postgres.progress import DumpProgress, Table
from app.services.backups import listing
from app.services.backups import service as backups
from app.services.databases.configured import storage
from app.services.jobs import claims
from app.services.jobs import run as job_run
from app.services.jobs.progress import progress_of
from app.services.jobs.run import Run
from app.services.proofs import records as proofs
from app.services.recovery import reconcile
from app.services.restores.load import RestoreRun
from tests.conftest import Database, locked, sessions, waiting
from tests.postgres.conftest import wait_until

pytestmark = pytest.mark.usefixtures("context")


def queued() -> DatabaseBackup:
    return backups.queue_backup(trigger=Trigger.API, created_by="ann")


def claimed() -> DatabaseBackup:
    backup = queued()
    assert claims.claim(backup.id)
    return backup


# Progress


def test_a_backup_that_waits_has_no_progress_and_one_that_begins_has_none_done():
    assert progress_of(queued()) is None
    backup = listing.get_backup(claimed_after_cancel().filename)
    progress = progress_of(backup)
    assert progress is not None
    assert (progress.phase, progress.percent, progress.seconds_left) == ("starting", 0.0, None)


def claimed_after_cancel() -> DatabaseBackup:
    (page,) = listing.list_backups().backups
    backups.cancel_backup(page.filename, by="ann")
    return claimed()


def test_what_is_told_stands_on_the_row():
    backup = claimed()
    run = Run(backup.id, limit=60)
    run.progress = DumpProgress([Table(1, "public.a", 8192, 10), Table(2, "public.b", 8192, 10)])
    run.phase = "dumping"
    for line in ("pg_dump: reading schemas", 'pg_dump: dumping contents of table "public.a"'):
        run.log.add(line)
        run.progress.heard(line)
    run.progress.saw([(1, 5, 100)])
    run.check(now_at_once=True)

    row = listing.get_backup(backup.filename)
    progress = progress_of(row)
    assert progress is not None
    assert progress.phase == "dumping"
    assert progress.table == "public.a"
    assert (progress.tables_done, progress.tables_total) == (0, 2)
    assert progress.percent == 15.0  # half of one of two tables and the large objects
    assert progress.seconds_left is not None
    assert row.log.endswith('dumping contents of table "public.a"')
    assert "progress" not in row.log

    run.phase, run.checked = "checking", 0.5
    run.check(now_at_once=True)
    progress = progress_of(listing.get_backup(backup.filename))
    assert progress is not None
    assert progress.percent == 94.5
    assert (progress.tables_done, progress.table) == (2, "")


def test_it_is_told_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch):
    times = iter(range(1000))
    monkeypatch.setattr(job_run.time, "monotonic", lambda: next(times) / 50)
    told: list[None] = []
    backup = claimed()
    run = Run(backup.id, limit=10**6, on_news=lambda: told.append(None))
    while next(times) < 900:  # 18 seconds
        run.checked += 0.001
        run.check()
    assert 5 <= len(told) <= 18


def test_nothing_new_is_not_told_again_before_the_lease_is_due(monkeypatch: pytest.MonkeyPatch):
    times = iter(range(1000))
    monkeypatch.setattr(job_run.time, "monotonic", lambda: next(times) / 50)
    told: list[None] = []
    run = Run(claimed().id, limit=10**6, on_news=lambda: told.append(None))
    while next(times) < 900:
        run.check()
    assert 1 <= len(told) <= 3


def test_the_log_of_a_long_run_is_told_by_its_end():
    backup = claimed()
    run = Run(backup.id, limit=60)
    for number in range(5000):
        run.log.add(f"line {number}")
    run.check(now_at_once=True)
    log = listing.get_backup(backup.filename).log
    assert log.startswith("[… 4800 lines before …]\nline 4800")
    assert log.endswith("line 4999")


def test_progress_and_process_are_gone_from_a_row_that_has_ended():
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    assert backup.is_completed
    assert (backup.progress, backup.process, progress_of(backup)) == (None, None, None)


def test_a_running_backup_is_told_while_it_runs(
    shop: Database, worker: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job_run, "_STORE_EVERY", 0.0)
    with locked(shop):
        backup = queued()
        wait_until(lambda: waiting(shop, backup.filename), "pg_dump to wait for the lock")

        def told() -> bool:
            row = listing.get_backup(backup.filename)
            db.session.commit()
            return bool(row.progress and row.progress["phase"] == "dumping" and row.log)

        wait_until(told, "the row to tell of it")
        row = listing.get_backup(backup.filename)
        assert row.process is not None
        assert psutil.Process(int(row.process.split()[3])).name() == "pg_dump"
        assert row.progress is not None
        assert row.progress["tablesTotal"] == 2
        assert row.contents is not None
        assert [each["name"] for each in row.contents["tables"]] == ["customers", "orders"]
    assert backups.wait_for_backup(backup.id, 30).is_completed


# Cancel


def test_a_backup_that_nobody_runs_is_cancelled_at_once():
    backup = queued()
    backups.cancel_backup(backup.filename, by="bob")
    failed = listing.get_backup(backup.filename)
    assert (failed.status, failed.error_message) == (Status.FAILED, "cancelled by bob")
    assert queued().is_pending, "it is in nobody's way"


def test_a_running_backup_is_cancelled(shop: Database, worker: None):
    with locked(shop):
        backup = queued()
        wait_until(lambda: waiting(shop, backup.filename), "pg_dump to wait for the lock")
        (pg_dump,) = (
            each for each in psutil.Process().children(recursive=True) if each.name() == "pg_dump"
        )
        backups.cancel_backup(backup.filename, by="bob")
        failed = backups.wait_for_backup(backup.id, 30)
        assert (failed.status, failed.error_message) == (Status.FAILED, "cancelled by bob")
        assert not pg_dump.is_running()
        wait_until(lambda: sessions(shop, backup.filename) == 0, "its sessions to end")
        assert storage().sizes() == {}
        assert list((current_settings().backup_dir / ".partial").iterdir()) == []
        assert "reading" in listing.get_backup(backup.filename).log
    assert backups.create_backup(trigger=Trigger.CLI).is_completed


def test_who_cancelled_first_is_named():
    backup = claimed()
    backups.cancel_backup(backup.filename, by="ann")
    backups.cancel_backup(backup.filename, by="bob")
    with pytest.raises(Interrupted, match="cancelled by ann"):
        Run(backup.id, limit=60).check(now_at_once=True)


def test_a_cancelled_backup_of_a_dead_runner_is_told_as_cancelled():
    backup = claimed()
    backups.cancel_backup(backup.filename, by="ann")
    with writing() as session:
        row = session.get_one(DatabaseBackup, backup.id)
        row.claimed_by, row.lease_until = "elsewhere boot - 1 1", now() - timedelta(seconds=1)
    assert reconcile().failed == [backup.filename]
    assert listing.get_backup(backup.filename).error_message == "cancelled by ann"


@pytest.mark.parametrize("ended", ["completed", "failed"])
def test_what_has_ended_cannot_be_cancelled(ended: str, make_app: Callable[..., Flask]):
    if ended == "completed":
        name = backups.create_backup(trigger=Trigger.CLI).filename
    else:
        name = queued().filename
        backups.cancel_backup(name, by="ann")
    with pytest.raises(Conflict, match=f"{name} has ended already: it is {ended.upper()}"):
        backups.cancel_backup(name, by="bob")
    with pytest.raises(NotFound):
        backups.cancel_backup("backup_of_nobody.dump", by="bob")


# Its other ends


def test_the_overall_limit_ends_a_run():
    run = Run(claimed().id, limit=0)
    time.sleep(0.01)
    with pytest.raises(DumpError, match="longer than 0 s") as told:
        run.check()
    assert "BACKSTOP_DUMP_TIMEOUT" in told.value.hint


def test_a_restore_that_takes_too_long_says_nothing_of_the_dump():
    run = RestoreRun("r", limit=0, on_news=lambda: None)
    time.sleep(0.01)
    with pytest.raises(PostgresError, match="the restore took longer than 0 s") as told:
        run.check()
    assert "BACKSTOP_RESTORE_TIMEOUT" in told.value.hint
    assert not isinstance(told.value, DumpError)
    assert proofs.judge(told.value) is Result.NOT_POSSIBLE


def test_a_stopping_process_ends_its_run():
    run = Run(claimed().id, limit=60)
    claims.stop_runs()
    with pytest.raises(Interrupted, match="interrupted"):
        run.check()


def test_a_catalogue_that_is_away_for_a_while_is_borne(monkeypatch: pytest.MonkeyPatch):
    run = Run(claimed().id, limit=10**6)

    def away(*_: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(run, "_store", away)
    monkeypatch.setattr(job_run, "_RENEW_EVERY", 0.0)
    run.check()
    with pytest.raises(OperationalError):  # what is published must have been told
        run.check(now_at_once=True)
    monkeypatch.setattr(run, "_renewed", time.monotonic() - 61)
    with pytest.raises(OperationalError):  # the lease is over
        run.check()
    assert db.session.execute(text("SELECT 1")).scalar() == 1


def test_a_worker_that_leaves_says_so_on_the_row(monkeypatch: pytest.MonkeyPatch):
    backup = claimed()
    claims.leave_after_this_run()
    try:
        Run(backup.id, limit=60).check(now_at_once=True)
    finally:
        claims._leaving.clear()
    progress = progress_of(listing.get_backup(backup.filename))
    assert progress is not None
    assert progress.is_last is True
