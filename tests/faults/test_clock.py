"""The clock jumps back and forward between any two steps, and stands still."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from app.config import ROOT
from app.models import DatabaseBackup, Status, Trigger
from app.services.backups import service as backups
from app.services.recovery import reconcile
from tests.faults.lab import PATIENCE, SEED, Lab, N, chance, log_of, wait_until
from tests.faults.middle import locked, until_it_waits

pytestmark = pytest.mark.faults

_CLOCK = str(Path(__file__).with_name("clock.py").relative_to(ROOT))
_LOOKS = 20  # at the clock, in one backup
_JUMPS = [-400 * 86_400, -86_400, -3600, -61, -0.5, 0.5, 61, 3600, 86_400, 400 * 86_400]


def start(lab: Lab, *words: str, **more: str) -> psutil.Popen:
    """Start flask in a process whose clock jumps."""
    return lab.start_program([sys.executable, _CLOCK, *words], **more)


def jumps(case: str, index: int) -> str:
    dice = chance(case, index)
    looks = sorted(dice.sample(range(_LOOKS), dice.randint(1, 5)))
    return " ".join(f"{look}:{dice.choice(_JUMPS):+}" for look in looks)


def made_by(lab: Lab, runner: psutil.Popen, before: set[str]) -> DatabaseBackup:
    """The one new row, which must agree with how the runner ended."""
    runner.wait(PATIENCE)
    said = log_of(runner)
    assert "Traceback" not in said
    (name,) = lab.rows().keys() - before
    row = lab.rows()[name]
    assert row.is_completed == (runner.returncode == 0), said
    return row


def listed(lab: Lab) -> list[str]:
    """All backups, page by page."""
    names: list[str] = []
    more: list[str] = []
    while True:
        ended = lab.flask("backup", "list", "--json", "--limit", "3", *more)
        assert ended.returncode == 0, ended.stderr
        page = json.loads(ended.stdout)
        names += [each["filename"] for each in page["backups"]]
        if page["nextBefore"] is None:
            return names
        more = ["--before", page["nextBefore"]]


@pytest.mark.parametrize("index", range(N // 2))
def test_a_clock_that_jumps_between_steps_spoils_no_backup(lab: Lab, index: int):
    told, before = jumps("clock", index), set(lab.rows())
    row = made_by(lab, start(lab, "backup", "create", CLOCK_JUMPS=told), before)
    assert row.is_completed, f"{told} FAULTS_SEED={SEED}: {row.error_message} {row.error_detail}"
    shown = lab.flask("backup", "show", row.filename)
    assert shown.returncode == 0, shown.stderr
    lab.check()


def test_all_backups_are_listed_once_after_the_jumps(lab: Lab):
    assert sorted(listed(lab)) == sorted(lab.rows())


@pytest.mark.parametrize("jump", [-86_400, -3600, 3600, 86_400])
def test_a_runner_whose_clock_others_do_not_share_ends_as_its_row_says(lab: Lab, jump: int):
    before = set(lab.rows())
    with locked(lab.database) as table:
        create = until_it_waits(lab, start(lab, "backup", "create", CLOCK_JUMPS=f"0:{jump:+}"))
        with lab.context():
            reconcile()
        table.release()
        row = made_by(lab, create, before)
    # It lives on this very machine, as its pid and start prove: its lease does not count.
    assert row.is_completed, f"{row.error_message} {row.error_detail}"
    lab.check()


@pytest.mark.parametrize("index", range(max(1, N // 8)))
def test_a_worker_whose_clock_jumps_goes_on_working(lab: Lab, index: int):
    told = jumps("worker", index)
    worker = start(lab, "worker", CLOCK_JUMPS=told)
    wait_until(lambda: "worker started" in log_of(worker), "the worker")
    for _ in range(3):
        with lab.context():
            waiting = backups.queue_backup(trigger=Trigger.API, created_by="ann").filename
        wait_until(lambda name=waiting: lab.rows()[name].status is not Status.PENDING, "its end")
        row = lab.rows()[waiting]
        assert row.is_completed, f"{told} FAULTS_SEED={SEED}: {row.error_message}"
    worker.terminate()
    assert worker.wait(PATIENCE) == 0, log_of(worker)
    lab.check()


def test_backups_in_one_millisecond_have_names_of_their_own(make_lab: Callable[..., Lab]):
    lab, other = make_lab(), make_lab()
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    for _ in range(2):  # two databases at once, and then both again
        both = [
            start(lab, "backup", "create", CLOCK_STOPS=moment, DATABASE_URL=each.database.url)
            for each in (lab, other)
        ]
        for each in both:
            assert each.wait(PATIENCE) == 0, log_of(each)
    rows = lab.rows()
    assert len(rows) == 4
    assert all(row.is_completed for row in rows.values())
    assert len({row.sha256 for row in rows.values()}) >= 2
    assert sorted(listed(lab)) == sorted(rows)
    lab.check()
