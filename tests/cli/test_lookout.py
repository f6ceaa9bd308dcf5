"""Notifiers that hang and fail beside a real backup, and a dead worker that web tells of."""

import subprocess
import sys
from datetime import timedelta

import pytest
import requests
from flask import Flask
from sqlalchemy import select

from app.cli.lookout import Lookout
from app.config import ROOT
from app.errors import DumpError
from app.extensions import db, writing
from app.models import Delivery, DeliveryStatus, Fact, Notifier, Trigger, Worker
from app.models.types import now
from app.models.worker import HEARTBEAT
from app.sealing import seal
from app.services.alerts import deliveries
from app.services.backups import service as backups
from app.services.backups.queue import insert_pending
from app.services.databases.lookup import default_database
from app.services.jobs import claims
from app.services.jobs.outcomes import record_failure
from tests.cli.test_panel import Home, can_connect, free_port, wait_until
from tests.conftest import PASSWORD
from tests.listeners import listening


def notifier(name: str, url: str) -> None:
    everything = [each.value for each in Fact]
    with writing() as session:
        session.add(Notifier(id=name, name=name, url=seal(url), target=name, facts=everything))


def of(name: str) -> list[Delivery]:
    db.session.rollback()
    chosen = select(Delivery).filter_by(notifier_id=name).order_by(Delivery.created_at)
    return list(db.session.scalars(chosen.execution_options(populate_existing=True)))


@pytest.mark.usefixtures("context")
def test_a_backup_waits_for_no_notifier_and_each_is_told_or_tried_again(
    app: Flask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deliveries, "PATIENCE", 100)  # longer than all that is done meanwhile
    failed = insert_pending(Trigger.CLI, "ann", "", of=default_database())
    record_failure(failed.id, DumpError("it broke"))
    shop = default_database().name
    with listening() as right, listening(500) as wrong, listening(hangs=True) as silent:
        notifier("right", right.url)
        notifier("wrong", wrong.url)
        notifier("silent", f"{silent.url}?rto=600")
        lookout = Lookout(app)
        lookout.start()
        try:
            wait_until(lambda: silent.heard, "one hangs")
            backup = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
            assert backup.is_completed
            wait_until(lambda: len(right.titles) == 3, "the right one is told all")
            sent = {DeliveryStatus.SENT}
            wait_until(lambda: {each.status for each in of("right")} == sent, "it is recorded")
            wait_until(lambda: of("wrong")[0].last_error, "the refusal is recorded")
            under_way = of("silent")[0]
            assert (under_way.attempts, under_way.last_error) == (1, "")  # it hangs still
            silent.answers = 504
            silent.release.set()
            wait_until(lambda: of("silent")[0].last_error, "that is recorded too")
        finally:
            lookout.stop()
            lookout.join()
    titles = [each.removeprefix("Backstop: ") for each in right.titles]
    assert titles[0] == f"A backup of {shop} failed"
    assert set(titles[1:]) == {f"Resolved: {titles[0]}", f"Backup of {shop} completed"}
    assert {each.status for each in of("wrong") + of("silent")} == {DeliveryStatus.QUEUED}
    assert "error=500" in of("wrong")[0].last_error
    assert "error=504" in of("silent")[0].last_error
    for each in (of("wrong")[0], of("silent")[0]):
        assert each.next_attempt_at > each.created_at + timedelta(seconds=59)


@pytest.mark.usefixtures("context")
def test_the_web_process_tells_that_the_worker_is_silent(app: Flask):
    with listening() as right:
        notifier("right", right.url)
        with writing() as session:  # one that lives, and was last heard of long enough ago
            session.add(Worker(id=claims.runner(), seen_at=now() - 2 * HEARTBEAT))
        home, port = Home(app.extensions["backstop.settings"].backup_dir.parent), free_port()
        environment = home.environment(
            BACKSTOP_LISTEN=f"127.0.0.1:{port}",
            DATABASE_URL=app.extensions["backstop.settings"].database_url,
            SECRET_KEY=app.extensions["backstop.settings"].secret_key,
        )
        web = subprocess.Popen([sys.executable, "-m", "flask", "web"], cwd=ROOT, env=environment)
        try:
            wait_until(lambda: right.titles, "somebody is told")
            wait_until(lambda: can_connect(port), "it serves")
            base = f"http://127.0.0.1:{port}"
            visit = requests.Session()
            ann = {"username": "admin", "password": PASSWORD}
            assert visit.post(f"{base}/api/admin/session", json=ann, timeout=10).ok
            assert "No worker runs" in visit.get(f"{base}/admin/backup", timeout=10).text
            with writing() as session:
                session.get_one(Worker, claims.runner()).seen_at = now() + timedelta(minutes=1)
            wait_until(lambda: len(right.titles) > 1, "it is over")
            assert "No worker runs" not in visit.get(f"{base}/admin/backup", timeout=10).text
        finally:
            web.terminate()
            web.wait(20)
    assert right.titles == ["Backstop: No worker runs", "Backstop: Resolved: No worker runs"]
