"""Forty databases on four servers, one of which never answers: nothing is late behind it."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select

from app.errors import ConnectError
from app.extensions import db, writing
from app.models import Database, DatabaseBackup, Firing, Status, Task
from app.models.types import now
from app.postgres.conninfo import Conninfo
from app.queue import queue
from app.services.backups import service as backups
from app.services.databases import lookup
from app.services.databases import service as databases
from app.services.jobs import claims
from app.services.schedules import service as schedules
from app.services.schedules import turn as scheduling
from tests.conftest import Database as Admin
from tests.conftest import url_of
from tests.faults.lab import USUAL_N, N, chance
from tests.faults.test_schedules import Machine, Wanted, judge
from tests.servers import programs

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

EACH = 10  # databases on each server
PATIENCE = 300  # seconds for one round


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"postgresql://nobody@127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(max_jobs=200, pg_bin_dir=programs(18))


@pytest.fixture
def forty(
    context: None, server: Conninfo, server_15: Conninfo, server_18: Conninfo
) -> Iterator[list[str]]:
    """The names of forty databases; the last ten are those of the silent server."""
    names, made = [], []
    for major, info in ((15, server_15), (17, server), (18, server_18)):
        admin = Admin("postgres", url_of(info, "postgres"))
        for number in range(EACH):
            dbname = f"many_{number}"
            admin.run(f"CREATE DATABASE {dbname} TEMPLATE template0 STRATEGY file_copy")
            made.append((admin, dbname))
            Admin(dbname, url_of(info, dbname)).run(
                f"CREATE TABLE t AS SELECT g FROM generate_series(1, {number + 1}) g"
            )
            names.append(f"pg{major}-{number}")
            databases.add_database(names[-1], url_of(info, dbname), by="ann")
    with silent_server() as url:
        for number in range(EACH):
            names.append(f"silent-{number}")
            databases.add_database(names[-1], f"{url}/many_{number}", by="ann")
        yield names
    for admin, dbname in made:
        admin.run(f"DROP DATABASE {dbname} WITH (FORCE)")


def scheduled(names: list[str], crons: list[str]) -> None:
    for name, cron in zip(names, crons, strict=True):
        new = schedules.NewSchedule(name, Task.BACKUP, cron, notes="{schedule} of {due}")
        schedules.add_schedule(new, of=lookup.get_database(name), created_by="ann")


def completed_by_database(since: datetime) -> Counter[str]:
    made = (
        select(Database.name, func.count())
        .join(DatabaseBackup)
        .where(DatabaseBackup.status == Status.COMPLETED, DatabaseBackup.created_at >= since)
        .group_by(Database.name)
    )
    counted = Counter(dict(iter(db.session.execute(made))))
    db.session.commit()
    return counted


def test_what_can_be_backed_up_is_and_waits_for_no_dead_server(forty: list[str], record_property):
    """All at once, by real workers: ten rounds, or one with the usual N."""
    alive, silent = forty[:-EACH], forty[-EACH:]
    scheduled(forty, ["0 0 1 1 *"] * len(forty))
    rounds = 10 if N > USUAL_N else 1
    seconds = []
    consumer = queue.create_consumer(workers=4, max_delay=0.1, periodic=False)
    consumer._set_signal_handlers = lambda: None
    consumer.start()
    try:
        for _ in range(rounds):
            began, at = time.monotonic(), now()
            for name in forty:
                of = lookup.get_database(name)
                schedules.run_now(schedules.get_schedule_named(name, of).id, by="ann")
            while completed_by_database(at).keys() < set(alive):
                scheduling.turn()
                backups.run_unclaimed()
                assert time.monotonic() < began + PATIENCE, completed_by_database(at)
                time.sleep(0.05)
            seconds.append(time.monotonic() - began)
            assert completed_by_database(at) == Counter(dict.fromkeys(alive, 1))
            still = select(func.count()).where(
                DatabaseBackup.status == Status.PENDING, DatabaseBackup.created_at >= at
            )
            waiting = db.session.scalar(still) or 0
            db.session.commit()
            assert waiting >= EACH // 2, "the others waited for the silent server"
            for row in list(
                db.session.scalars(select(DatabaseBackup).filter_by(status=Status.PENDING))
            ):
                backups.cancel_backup(row.filename, by="ann")
    finally:
        claims.stop_runs()
        consumer.stop(graceful=True)
        claims._stopping.clear()
    good = completed_by_database(datetime(2000, 1, 1, tzinfo=UTC))
    assert good.keys().isdisjoint(silent)
    record_property(
        "faults",
        f"30 databases on 3 servers beside a silent one, {rounds} rounds: {max(seconds):.1f} s",
    )


class Servers(Machine):
    """A machine whose backups of one server always fail."""

    def work(self) -> None:
        for backup in db.session.scalars(select(DatabaseBackup).filter_by(status=Status.PENDING)):
            if backup.server.startswith("down"):
                with writing():
                    backup.fail(ConnectError("no connection", detail="Connection refused."))
        super().work()


def test_a_week_of_forty_hourly_schedules(
    context: None, monkeypatch: pytest.MonkeyPatch, record_property
):
    """In simulated time, or four hours with the usual N."""
    start = datetime(2026, 11, 2, 11, 22, tzinfo=UTC)
    machine = Servers(monkeypatch, start, chance("many databases", 0))
    names = [f"{host}-{number}" for host in ("up1", "up2", "up3", "down") for number in range(EACH)]
    for name in names:
        host, _, number = name.partition("-")
        databases.add_database(name, f"postgresql://ann@{host}:5432/many_{number}", by="ann")
    minutes = [number % 7 for number in range(len(names))]
    scheduled(names, [f"{minute} * * * *" for minute in minutes])
    hours = 7 * 24 if N > USUAL_N else 4
    end = start + timedelta(hours=hours)
    machine.sleep_until(end)
    for name in names:
        of = lookup.get_database(name)
        paused = schedules.ScheduleChanges(enabled=False)
        schedules.edit_schedule(schedules.get_schedule_named(name, of).id, paused, by="ann")
    while db.session.scalar(select(Firing.id).where(Firing.finished_at.is_(None)).limit(1)):
        machine.at += timedelta(minutes=1)
        machine.turn()
    total = {
        name: judge(
            name,
            Wanted("", "UTC", frozenset({minute})).due(start, end),
            lookup.get_database(name),
        )
        for name, minute in zip(names, minutes, strict=True)
    }
    up = [counted for name, counted in total.items() if name.startswith("up")]
    down = [counted for name, counted in total.items() if name.startswith("down")]
    assert all(counted["missed"] == 0 and counted["failed"] == 0 for counted in up)
    assert all(counted["completed"] == 0 and counted["failed"] >= hours - 1 for counted in down)
    figures = sum(up, Counter()), sum(down, Counter())
    record_property("faults", f"simulated: {dict(figures[0])} up, {dict(figures[1])} down")
