"""Who runs a backup, and what happens to a runner that lost it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import psutil
import pytest
from flask import Flask

from app.errors import Interrupted
from app.extensions import writing
from app.models import DatabaseBackup, Status, Trigger
from app.models.job import LEASE
from app.models.types import now
from app.services.backups import listing
from app.services.backups import service as backups
from app.services.databases.configured import storage
from app.services.jobs import claims
from app.services.jobs.run import Run
from tests.postgres.conftest import wait_until

pytestmark = pytest.mark.usefixtures("context")


def queued() -> DatabaseBackup:
    return backups.queue_backup(trigger=Trigger.API, created_by="ann")


def test_only_one_of_many_claims_succeeds(app: Flask):
    backup_id = queued().id
    won: list[bool] = []

    def try_it() -> None:
        with app.app_context():
            won.append(claims.claim(backup_id))

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_claim_says_who_and_until_when():
    backup = queued()
    assert claims.claim(backup.id)
    claimed = listing.get_backup(backup.filename)
    assert claimed.claimed_by == claims.runner()
    assert claimed.lease_until is not None
    assert claimed.lease_until > now()
    assert claimed.started_at is not None


def test_a_lease_is_renewed():
    backup = queued()
    claims.claim(backup.id)
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).lease_until = now() - timedelta(seconds=5)
    Run(backup.id, limit=60).check(now_at_once=True)
    renewed = listing.get_backup(backup.filename).lease_until
    assert renewed is not None
    assert renewed > now()


@pytest.mark.parametrize("thief", ["another runner", "reconcile"])
def test_a_runner_that_lost_its_claim_must_end(thief: str):
    backup = queued()
    claims.claim(backup.id)
    with writing() as session:
        row = session.get_one(DatabaseBackup, backup.id)
        if thief == "reconcile":
            row.fail(Interrupted("the backup was interrupted"))
        else:
            row.claimed_by = "somebody else"
    with pytest.raises(Interrupted):
        Run(backup.id, limit=60).check(now_at_once=True)


def test_a_stopped_worker_fails_its_backup_and_leaves_nothing():
    backup = queued()
    claims.stop_runs()
    backups.run_backup.call_local(backup.id)
    failed = listing.get_backup(backup.filename)
    assert failed.status is Status.FAILED
    assert "was stopped" in failed.error_detail
    assert storage().sizes() == {}


def test_lost_tasks_are_found_again(worker: None):
    backup = queued()
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).created_at -= timedelta(minutes=1)
    backups.queue.storage.flush_queue()
    backups.run_unclaimed()
    assert backups.wait_for_backup(backup.id, 30).is_completed


# Who is dead


class Clock:
    """Stands in for time where a claim is judged: its hours pass when we say so."""

    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(claims, "time", clock)
    monkeypatch.setattr(claims, "_doubted", {})
    return clock


def over(seconds: float = 1) -> datetime:
    """A lease that is over by the clock on the wall."""
    return now() - timedelta(seconds=seconds)


def changed(**changes: object) -> str:
    """Our own claim with a part of it changed."""
    names = ("host", "boot", "namespace", "pid", "start")
    parts = dict(zip(names, claims.runner().split(" "), strict=True))
    return " ".join(str(each) for each in (parts | changes).values())


def test_a_runner_that_lives_here_is_dead_only_another_lease_after_its_lease_is_over(clock: Clock):
    lease = over()
    assert not claims.is_dead(claims.runner(), lease)
    clock.seconds += LEASE.total_seconds()
    assert not claims.is_dead(claims.runner(), lease)
    clock.seconds += 0.1
    assert claims.is_dead(claims.runner(), lease)
    assert claims.is_dead(claims.runner(), lease), "and stays so"


def test_a_runner_that_lives_here_and_renews_its_lease_is_given_the_time_again(clock: Clock):
    assert not claims.is_dead(claims.runner(), over(9))
    clock.seconds += LEASE.total_seconds() + 1
    # Renewed by a clock that was set back; the wall says that this one is over too.
    renewed = over(5)
    assert not claims.is_dead(claims.runner(), renewed)
    clock.seconds += LEASE.total_seconds()
    assert not claims.is_dead(claims.runner(), renewed)
    clock.seconds += 1
    assert claims.is_dead(claims.runner(), renewed)
    assert not claims.is_dead(claims.runner(), now() + LEASE)


def test_each_runner_that_lives_here_is_doubted_for_itself(clock: Clock):
    with a_sleeper() as child:
        lease, its = over(), claims.identity(child.pid)
        assert not claims.is_dead(claims.runner(), lease)
        clock.seconds += LEASE.total_seconds() + 1
        assert not claims.is_dead(its, lease)
        assert claims.is_dead(claims.runner(), lease)


def test_a_runner_elsewhere_is_dead_with_its_lease(clock: Clock):
    for elsewhere in (changed(host="elsewhere"), changed(namespace="pid:[1]")):
        assert claims.is_dead(elsewhere, over())
        assert claims.is_dead(elsewhere, None)
        assert not claims.is_dead(elsewhere, now() + timedelta(seconds=5))
    assert claims._doubted == {}


def test_a_runner_that_is_gone_is_dead_whatever_its_lease(clock: Clock):
    with a_sleeper() as child:
        its = claims.identity(child.pid)
        assert not claims.is_dead(its, now() + LEASE)
    for gone in (its, changed(start="1"), changed(boot="another")):
        assert claims.is_dead(gone, now() + LEASE)
        assert claims.is_dead(gone, None)


# What a dead runner left behind

SLEEP = "import time; print('here', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
WITH_A_CHILD = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}"
)


@contextmanager
def a_sleeper(code: str = SLEEP, lines: int = 1) -> Iterator["subprocess.Popen[bytes]"]:
    """A program of our own, in a process group of its own; it ends with the block."""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    with child:
        assert child.stdout is not None
        try:
            for _ in range(lines):
                assert child.stdout.readline() == b"here\n"
            yield child
        finally:
            if child.poll() is None:
                for each in psutil.Process(child.pid).children(recursive=True):
                    each.kill()
                child.kill()


@pytest.mark.parametrize("code", [SLEEP, DEAF], ids=["that ends when asked", "that is deaf"])
def test_a_program_is_ended_by_what_was_written_down_of_it(code: str):
    with a_sleeper(code) as child:
        began = time.monotonic()
        assert claims.end_process(claims.identity(child.pid)) is True
        assert child.wait(5) < 0
        assert (time.monotonic() - began >= claims._GRACE) == (code == DEAF)
        assert claims.end_process(claims.identity(child.pid)) is False, "it is gone"


def test_a_program_is_ended_with_its_group():
    with a_sleeper(WITH_A_CHILD, lines=2) as child:
        (grandchild,) = psutil.Process(child.pid).children()
        assert claims.end_process(claims.identity(child.pid))
        wait_until(
            lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE,
            "the program's own child to end",
        )


@pytest.mark.parametrize("part", ["host", "boot", "namespace", "start"])
def test_a_program_that_is_not_the_one_written_down_is_never_ended(
    part: str, monkeypatch: pytest.MonkeyPatch
):
    with a_sleeper() as child:
        written = claims.identity(child.pid).split(" ")
        index = ("host", "boot", "namespace", "pid", "start").index(part)
        written[index] = str(int(written[index]) + 1) if part == "start" else "another"
        sent: list[object] = []
        monkeypatch.setattr(claims.os, "killpg", lambda *words: sent.append(words))
        assert claims.end_process(" ".join(written)) is False
        monkeypatch.undo()
        assert sent == []
        assert child.poll() is None


def test_a_program_whose_start_nobody_knew_is_not_ended(monkeypatch: pytest.MonkeyPatch):
    """One that had ended when it was noted; its number may lead another group by now."""
    with a_sleeper() as child:
        child.kill()
        wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, "the zombie")
        unknown = claims.identity(child.pid)
        assert unknown.endswith(" ")
        sent: list[object] = []
        monkeypatch.setattr(claims.os, "killpg", lambda *words: sent.append(words))
        assert claims.end_process(unknown) is False
        assert sent == []


def test_a_program_whose_pid_nobody_has_any_more_is_not_ended():
    with a_sleeper() as child:
        written = claims.identity(child.pid)
    assert claims.end_process(written) is False
    assert claims.is_gone(written)


def test_a_zombie_has_ended():
    with a_sleeper() as child:
        written = claims.identity(child.pid)
        assert not claims.is_gone(written)
        child.kill()
        wait_until(lambda: claims.is_gone(written), "the zombie to be known as one")
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        assert claims.end_process(written) is False


def test_only_its_own_runner_notes_the_program_at_work():
    backup = queued()
    assert claims.claim(backup.id)
    with a_sleeper() as child:
        claims.note_process(backup.id, child.pid)
        noted = listing.get_backup(backup.filename).process
        assert noted == claims.identity(child.pid)
        with writing() as session:
            row = session.get_one(DatabaseBackup, backup.id)
            row.claimed_by, row.process = changed(pid=1, start="1"), None
        claims.note_process(backup.id, child.pid)
        assert listing.get_backup(backup.filename).process is None
