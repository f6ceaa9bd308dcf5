"""What web and worker cost while nothing happens, and which of them keeps the lookout."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from app.cli import worker
from app.cli.lookout import _TURN, Lookout
from app.extensions import db
from app.models import Trigger, types
from app.models.types import now
from app.models.worker import HEARTBEAT
from app.services.alerts import alarms
from app.services.backups import service as backups
from app.services.copies.queue import copy_what_is_due
from app.services.databases.configured import storage
from app.services.databases.unguarded import look_at_servers
from app.services.jobs import workers
from app.services.recovery import try_to_reconcile
from app.services.rescue.exports import export_what_is_due
from app.services.retention.after_copies import prune_after_copies
from app.services.schedules import scrubs, service, turn

MINUTE = 60  # seconds, and as many statements


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Turns the clock forward by so many seconds."""
    ahead, clock = timedelta(0), types._clock

    def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += timedelta(seconds=seconds)

    monkeypatch.setattr(types, "_clock", lambda: clock() + ahead)
    return forward


@pytest.fixture
def lookouts(app: Flask) -> Iterator[Callable[[], Lookout]]:
    """Makes one of another process each time."""
    made: list[Lookout] = []

    def make() -> Lookout:
        made.append(Lookout(app))
        return made[-1]

    yield make
    for lookout in made:
        lookout.resign()


@contextmanager
def counted(app: Flask) -> Iterator[list[str]]:
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("first", ["web", "worker"])
def test_an_idle_web_and_worker_send_at_most_a_statement_a_second(
    app: Flask,
    clock: Callable[[float], None],
    lookouts: Callable[[], Lookout],
    first: str,
):
    with app.app_context():
        for _ in range(5):
            backups.create_backup(trigger=Trigger.CLI, created_by="ann")
        service.make_first_schedules()
        os.utime(storage().folder, (0, 0))  # nothing came or went there lately
    names = ("web", "worker") if first == "web" else ("worker", "web")
    looking = {name: lookouts() for name in names}
    every = {
        "web": {30: [try_to_reconcile_beside]},
        "worker": {
            10: [workers.beat, turn.turn],
            30: [worker._tend, scrubs.scrub_due, copy_what_is_due],
            300: [look_at_servers, worker._verify, prune_after_copies, export_what_is_due],
        },
    }

    def second(name: str, number: int) -> None:
        tasks = [task for each, some in every[name].items() for task in some if number % each == 0]
        for task in tasks:
            with app.app_context():
                task()
        if number == 0 or int(number / _TURN) != int((number - 1) / _TURN):
            with app.app_context():
                looking[name].turn(int(number / _TURN))

    number = {"web": 0, "worker": 0}
    for passed in range(3 * MINUTE):
        for name in looking:
            with counted(app) as sent:
                second(name, passed)
            if passed >= 2 * MINUTE:  # what was new to them is known by now
                number[name] += len(sent)
        clock(1)
    assert 0 < number["web"] <= MINUTE
    assert 0 < number["worker"] <= MINUTE


def try_to_reconcile_beside() -> None:
    try_to_reconcile(thorough=False)


@pytest.mark.parametrize("is_hanging", [False, True])
def test_a_silent_worker_is_told_soon_also_if_it_keeps_the_lookout(
    app: Flask,
    clock: Callable[[float], None],
    lookouts: Callable[[], Lookout],
    is_hanging: bool,
):
    of_worker, of_web = lookouts(), lookouts()
    with app.app_context():
        workers.beat()
        for number in range(5):
            for lookout in (of_worker, of_web):
                lookout.turn(number)
        assert not alarms.list_open()
        began = now()
        if not is_hanging:
            of_worker.resign()
        for number in range(5, 60):
            clock(_TURN)
            of_web.turn(number)
            if alarms.list_open():
                break
        (alarm,) = alarms.list_open()
        assert alarm.title == "No worker runs"
        assert now() - began <= 2 * HEARTBEAT + timedelta(seconds=15)
