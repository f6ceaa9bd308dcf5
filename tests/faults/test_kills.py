"""SIGKILL and SIGTERM at random moments against every process there is."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from random import Random
from threading import Thread

import psutil
import psycopg2
import pytest
import requests

from app.models import Trigger
from app.services import backups
from app.services.reconcile import reconcile
from tests.cli.test_panel import PATIENCE, free_port
from tests.conftest import PASSWORD
from tests.faults.lab import SEED, Lab, N, awaited, chance, log_of, nothing_is_left

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(120 + 15 * N)]

_LEAST = 8  # kills of each target, however slow the machine is
_BOX = 25 / 8  # seconds for each kill, after which a target is left

# Slow to compress and small on the disk: a dump of it takes some 0.3 s.
_WORDS = """
    CREATE TABLE words AS
    SELECT n, md5(n::text) || md5((n * 7)::text) AS word FROM generate_series(1, 70000) n
"""

Tell = Callable[[str, object], None]
Kill = Callable[[Random, signal.Signals, int], tuple[int, str]]


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    lab = make_lab(_WORDS, BACKSTOP_COMPRESSION="gzip:6")
    lab.make_backup()
    return lab


@pytest.fixture
def worker(lab: Lab) -> Iterator[psutil.Popen]:
    """A worker that lives through a test."""
    worker = lab.start_worker()
    yield worker
    assert worker.poll() is None, "the worker has died of another one's end"
    fall(worker, signal.SIGTERM)


class Span:
    """How long a target lives, in seconds; shorter while it has always ended before."""

    def __init__(self, longest: float) -> None:
        self.seconds = self._longest = longest

    def learn(self, *, hit: bool) -> None:
        self.seconds = min(self.seconds * (1.05 if hit else 0.8), self._longest)


def kill_again_and_again(
    target: str, lab: Lab, one: Kill, span: Span, tell: Tell, *living: psutil.Process
) -> None:
    """Kill until N were hit that still lived, and ask the oracle each time.

    `one` says how many it has hit, and what is left of what they did.
    """
    left: Counter[str] = Counter()
    kills = 0
    deadline = time.monotonic() + N * _BOX
    for index in count():
        if kills >= N or (kills >= _LEAST and time.monotonic() > deadline):
            break
        number = (signal.SIGKILL, signal.SIGTERM)[index % 2]
        try:
            hit, what = one(chance(target, index), number, index)
            lab.check(*living)
        except BaseException as error:
            error.add_note(f"{target}: case {index}, {number.name}, FAULTS_SEED={SEED}")
            raise
        kills += hit
        span.learn(hit=bool(hit))
        left[what if hit else "that had ended"] += 1
    found = ", ".join(f"{times} {what}" for what, times in left.most_common())
    tell("faults", f"{target}: {kills} kills at random moments; left: {found}")


def fall(process: psutil.Popen, number: signal.Signals) -> bool:
    """Send the signal and wait for the end; whether the process still lived."""
    lived = process.poll() is None
    if lived:
        process.send_signal(number)
        process.wait(PATIENCE)
    return lived


def span_of(run: Callable[[], object]) -> Span:
    begun = time.monotonic()
    run()
    return Span(time.monotonic() - begun)


def ask_for_backup(lab: Lab) -> str:
    with lab.context():
        return backups.queue_backup(trigger=Trigger.API, created_by="ann").filename


def wait_for_end(lab: Lab, name: str) -> None:
    awaited(lambda: not lab.rows()[name].is_pending, f"{name} to end")


def state_of(lab: Lab, name: str) -> str:
    """What a kill has left of a backup, before anybody has looked after it."""
    row = lab.rows().get(name)
    if row is None:
        return "no row"
    waits = row.is_pending and row.claimed_by is None
    return "WAITING" if waits else row.status.value


def new_row(lab: Lab, before: dict[str, object]) -> str:
    """The name of the row that is new; empty if there is none."""
    return next(iter(set(lab.rows()) - set(before)), "")


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
        found = awaited(lambda: find_program(program, runner), program)
        time.sleep(luck.uniform(0, span.seconds))
        try:
            found.send_signal(number)
        except psutil.NoSuchProcess:
            lived = False
        else:
            lived = True
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
    with closing(psycopg2.connect(lab.database.url)) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE words IN ACCESS EXCLUSIVE MODE")
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


# -- Those who only look after them ----------------------------------------


def test_a_backup_does_not_notice_that_the_web_process_is_killed(
    lab: Lab, worker: psutil.Popen, record_property: Tell
):
    browser = requests.Session()

    def post(port: int) -> None:
        with suppress(requests.ConnectionError):  # that is what is done to it
            browser.post(f"http://127.0.0.1:{port}/api/admin/backup", json={}, timeout=PATIENCE)

    def one(luck: Random, number: signal.Signals, _index: int) -> tuple[int, str]:
        before = lab.rows()
        web = lab.start_web()
        asking = Thread(target=post, args=[web.port])
        asking.start()
        time.sleep(luck.uniform(0, span.seconds))
        hit = fall(web, number)
        asking.join(PATIENCE)
        name = new_row(lab, before)
        left = state_of(lab, name)
        if name:
            wait_for_end(lab, name)
            row = lab.rows()[name]
            assert row.is_completed, row.error_message
        return hit, left

    web = lab.start_web()
    who = {"username": "admin", "password": PASSWORD}
    session = f"http://127.0.0.1:{web.port}/api/admin/session"
    assert browser.post(session, json=who, timeout=PATIENCE).status_code == 200
    span = span_of(lambda: post(web.port))
    assert fall(web, signal.SIGTERM)
    assert web.returncode == 0
    kill_again_and_again("web", lab, one, span, record_property, worker)


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


def test_a_killed_delete_is_finished_or_was_never_begun(lab: Lab, record_property: Tell):
    def one(luck: Random, number: signal.Signals, _index: int) -> tuple[int, str]:
        name = lab.newest()
        lab.forget(name)
        delete = lab.start("backup", "delete", "--yes", name)
        time.sleep(luck.triangular(0, span.seconds, span.seconds * 0.85))
        hit = fall(delete, number)
        row = lab.rows().get(name)
        left = "no row" if row is None else "the wish" if row.delete_requested_at else "the backup"
        return hit, left

    span = span_of(lambda: lab.flask("backup", "delete", "--yes", doomed(lab)))
    kill_again_and_again("backup delete", lab, one, span, record_property)


def doomed(lab: Lab) -> str:
    name = lab.make_backup()
    lab.forget(name)
    return name


def test_a_killed_reconcile_is_finished_by_the_next(lab: Lab, record_property: Tell):
    def one(luck: Random, number: signal.Signals, _index: int) -> tuple[int, str]:
        published, dead = lab.wreck()
        mending = lab.start("backup", "reconcile")
        time.sleep(luck.triangular(0, span.seconds, span.seconds * 0.85))
        hit = fall(mending, number)
        left = {
            "the delete": dead in lab.rows(),
            "the lost run": lab.rows()[published].is_pending,
            "partials": any(lab.partials.iterdir()),
            "manifests": any(lab.backups.glob("backup_lone*")),
        }
        return hit, " and ".join(what for what, is_there in left.items() if is_there) or "nothing"

    lab.make_backup()
    lab.wreck()
    span = span_of(lambda: lab.flask("backup", "reconcile"))
    kill_again_and_again("backup reconcile", lab, one, span, record_property)


def test_all_at_once_and_some_of_them_killed(lab: Lab, record_property: Tell):
    def one(luck: Random, number: signal.Signals, _index: int) -> tuple[int, str]:
        lab.wreck()
        name = lab.newest()
        lab.forget(name)
        words = [["reconcile"], ["reconcile"], ["delete", "--yes", name], ["create"]]
        started = [lab.start("backup", *each) for each in words]
        victims = luck.sample(started, 2)
        hit = 0
        for victim in victims:
            time.sleep(luck.uniform(0, span.seconds / 2))
            hit += fall(victim, number)
        for each in started:
            assert each.wait(PATIENCE) == 0 or each in victims, log_of(each)
        return hit, f"{sum(each.returncode == 0 for each in started)} at their end"

    alone = span_of(lambda: lab.flask("backup", "create"))
    span = Span(2 * alone.seconds)  # they share the processors
    kill_again_and_again("two of four at once", lab, one, span, record_property)
