"""SIGKILL and SIGTERM at random moments against all that makes a backup."""

import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import psutil
import psycopg2
import pytest

from app.services.recovery import reconcile
from tests.cli.test_panel import PATIENCE, free_port
from tests.conftest import HELD, HOLD
from tests.faults.kills import (
    Tell,
    ask_for_backup,
    fall,
    kill_again_and_again,
    make_words,
    new_row,
    span_of,
    state_of,
    wait_for_end,
)
from tests.faults.lab import Lab, N, awaited, nothing_is_left

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400 + 15 * N)]


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_words(make_lab)


# -- The programs of a backup ----------------------------------------------


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_a_backup_whose_program_is_killed_fails_alone(
    lab: Lab, worker: psutil.Popen, record_property: Tell, program: str
):
    def one(luck: Random, number: signal.Signals, index: int) -> tuple[int, str]:
        before = lab.rows()
        if of_worker := index % 8 < 6:
            ask_for_backup(lab)
        runner = worker if of_worker else lab.start("backup", "create")
        found = awaited(lambda: find_program(program, runner) or has_ended(lab, before), program)
        time.sleep(luck.uniform(0, span.seconds))
        try:
            lived = isinstance(found, psutil.Process) and found.send_signal(number) is None
        except psutil.NoSuchProcess:
            lived = False
        name = new_row(lab, before)
        wait_for_end(lab, name)
        assert not any(lab.partials.iterdir()), "it has not tidied up after itself"
        if not of_worker:
            assert runner.wait(PATIENCE) == (0 if lab.rows()[name].is_completed else 1)
        return lived, state_of(lab, name)

    whole = ask_for_backup(lab)
    first = awaited(lambda: find_program(program, worker), program)
    span = span_of(lambda: nothing_is_left(lambda: alive(first), program))
    wait_for_end(lab, whole)
    kill_again_and_again(program, lab, one, span, record_property, worker)


def has_ended(lab: Lab, before: dict[str, object]) -> bool:
    """Whether the new backup is over: a program that is quicker than a look is never seen."""
    row = lab.rows().get(new_row(lab, before))
    return row is not None and not row.is_pending


def find_program(name: str, runner: psutil.Process) -> psutil.Process | None:
    """The program that works on a dump for this process."""
    for child in runner.children(recursive=True):
        with suppress(psutil.Error):
            words = child.cmdline()
            if any(Path(word).name == name for word in words) and ".partial" in " ".join(words):
                return child
    return None


def alive(process: psutil.Process) -> list[psutil.Process]:
    return [process] if process.is_running() else []


@pytest.mark.parametrize(
    ("target", "number"),
    [("pg_dump", signal.SIGKILL), ("worker", signal.SIGKILL), ("worker", signal.SIGTERM)],
)
def test_a_dump_that_waits_for_a_lock_leaves_nothing_when_it_is_killed(
    lab: Lab, target: str, number: signal.Signals
):
    worker = lab.start_worker(BACKSTOP_LOCK_TIMEOUT="600")  # nothing ends by itself
    lab.database.run(HELD)
    with closing(psycopg2.connect(lab.database.url)) as holder, holder.cursor() as cursor:
        cursor.execute(HOLD)
        name = ask_for_backup(lab)
        pg_dump = awaited(lambda: find_program("pg_dump", worker), "pg_dump")
        awaited(lambda: any(state == "Lock" for *_, state in lab.sessions()), "it to wait")
        if target == "worker":
            fall(worker, number)
        else:
            pg_dump.send_signal(number)
            wait_for_end(lab, name)
            assert fall(worker, signal.SIGTERM)
        nothing_is_left(lab.processes, "processes")
        with lab.context():
            reconcile()
        # A backend that waits for a lock does not see that its client was killed.
        nothing_is_left(lab.sessions, "server sessions")
    lab.check()


# -- Those who run backups -------------------------------------------------


def test_a_killed_worker_leaves_nothing_half_made(lab: Lab, record_property: Tell):
    def one(luck: Random, number: signal.Signals, _index: int) -> tuple[int, str]:
        worker = lab.start_worker()
        name = ask_for_backup(lab)
        time.sleep(luck.uniform(0, span.seconds))
        hit = fall(worker, number)
        left = state_of(lab, name)
        if number is signal.SIGTERM:  # it was asked, and could tidy up
            assert left != "PENDING"
            assert not any(lab.partials.iterdir())
        return hit, left

    worker = lab.start_worker()
    span = span_of(lambda: wait_for_end(lab, ask_for_backup(lab)))
    assert fall(worker, signal.SIGTERM)
    assert worker.returncode == 0
    kill_again_and_again("worker", lab, one, span, record_property)


def test_a_killed_create_leaves_nothing_half_made(lab: Lab, record_property: Tell):
    def one(luck: Random, number: signal.Signals, index: int) -> tuple[int, str]:
        before = lab.rows()
        create = lab.start("backup", "create")
        if index % 4 >= 2:  # a Python process spends half of its life on imports
            awaited(lambda: new_row(lab, before) or create.poll() is not None, "a row")
            time.sleep(luck.uniform(0, span.seconds / 2))
        else:
            time.sleep(luck.uniform(0, span.seconds))
        hit = fall(create, number)
        left = state_of(lab, new_row(lab, before))
        assert number is signal.SIGKILL or not any(lab.partials.iterdir())
        return hit, left

    span = span_of(lambda: lab.flask("backup", "create"))
    kill_again_and_again("backup create", lab, one, span, record_property)


def test_a_killed_supervisor_takes_everything_along(lab: Lab, record_property: Tell):
    def start() -> tuple[psutil.Popen, str]:
        name = ask_for_backup(lab)  # its worker begins with it
        return lab.start("panel", BACKSTOP_LISTEN=f"127.0.0.1:{free_port()}"), name

    def one(luck: Random, number: signal.Signals, index: int) -> tuple[int, str]:
        panel, name = start()
        if index % 4 >= 2:
            awaited(lambda: state_of(lab, name) != "WAITING", "the worker")
            time.sleep(luck.uniform(0, span.seconds / 2))
        else:
            time.sleep(luck.uniform(0, span.seconds))
        hit = fall(panel, number)
        nothing_is_left(lab.processes, "processes")
        return hit, state_of(lab, name)

    def run() -> None:
        panel, name = start()
        wait_for_end(lab, name)
        panels.append(panel)

    panels: list[psutil.Popen] = []
    span = span_of(run)
    fall(panels[0], signal.SIGTERM)
    lab.check()
    kill_again_and_again("panel", lab, one, span, record_property)
