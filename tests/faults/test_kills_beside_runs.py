"""SIGKILL and SIGTERM at random moments against who is beside a backup, or looks after it."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from threading import Thread

import psutil
import pytest
import requests

from tests.cli.test_panel import PATIENCE
from tests.conftest import PASSWORD
from tests.faults.kills import (
    Span,
    Tell,
    fall,
    kill_again_and_again,
    make_words,
    new_row,
    span_of,
    state_of,
    wait_for_end,
)
from tests.faults.lab import Lab, N, log_of

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400 + 15 * N)]


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_words(make_lab)


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
