"""Queue and workers."""

import time
from datetime import timedelta

import pytest
from flask import Flask

from app.config import settings as current_settings
from app.extensions import writing
from app.models import Kind, Restore, Task, Trigger, Worker
from app.models.types import now
from app.queue import queue
from app.services.backups import service as backups
from app.services.health.doctor import Finding
from app.services.jobs import claims, workers
from app.services.schedules import service as schedules
from tests.conftest import on_catalogues
from tests.services.health.doctor.conftest import OK, PROBLEM, WARNING, found, plant

pytestmark = pytest.mark.usefixtures("context")


def test_the_queue_tells_how_many_wait(app: Flask):
    backups.queue_backup(trigger=Trigger.API, created_by="ann")
    assert found("queue") == Finding("queue", OK, "can be used; tasks that wait: 1")


def test_a_queue_that_cannot_be_used_is_a_problem(app: Flask):
    path = current_settings().instance_dir / "queue.db"
    queue.storage.close()
    for each in path.parent.glob("queue.db*"):
        each.unlink()
    path.mkdir()
    line = found("queue")
    assert line.state is PROBLEM
    assert "BACKSTOP_QUEUE_URL" in line.hint


def test_a_schedule_that_is_gone_is_a_warning_as_after_a_rebuild():
    assert found("schedule").told == "no backup is scheduled, and none ever was"
    plant(timedelta(hours=1), 1, trigger=Trigger.SCHEDULE)
    line = found("schedule")
    assert line.state is WARNING
    assert "set them up again" in line.hint
    schedules.add_schedule(
        schedules.NewSchedule("nightly", Task.BACKUP, "0 2 * * *"), created_by="ann"
    )
    line = found("schedule")
    assert (line.state, line.told[:23]) == (OK, "the next backup is due ")


def heard(ago: timedelta, worker: str = "elsewhere boot ns 1 2") -> None:
    with writing() as session:
        session.add(Worker(id=worker, started_at=now() - ago, seen_at=now() - ago))


def test_no_worker_is_a_warning_while_nothing_waits():
    line = found("worker")
    assert (line.state, line.told) == (WARNING, "none runs")
    assert "flask worker" in line.hint
    assert "flask backup create works without one" in line.hint


@on_catalogues("sqlite", "postgresql")
def test_no_worker_is_a_problem_when_a_backup_waits():
    backup = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    time.sleep(0.01)
    line = found("worker")
    assert line.state is PROBLEM
    assert backup.filename in line.told
    assert "flask worker" in line.hint


@on_catalogues("sqlite", "postgresql")
def test_a_worker_that_lives_is_fine():
    workers.beat()
    assert found("worker").state is OK
    assert "running workers: 1" in found("worker").told


def test_a_worker_that_is_gone_is_none():
    heard(timedelta(0), claims.runner().rpartition(" ")[0] + " 1")
    assert found("worker").told == "none runs"


@on_catalogues("sqlite", "postgresql")
def test_a_silent_worker_is_a_problem_and_beside_a_living_one_a_warning():
    heard(timedelta(minutes=5))
    line = found("worker")
    assert line.state is PROBLEM
    assert "silent, last heard of 5 minutes ago" in line.told
    workers.beat()
    line = found("worker")
    assert line.state is WARNING
    assert "1 of 2 workers are silent" in line.told


def test_what_a_restore_has_left_on_the_server_is_named():
    assert found("leftovers").state is OK
    with writing() as session:
        restore = Restore(
            filename="backup_2026-11-20T10-00-00-000Z.dump",
            kind=Kind.BESIDE,
            server="somewhere:5432",
            database="beside",
            working="backstop_left",
            trigger=Trigger.CLI,
            created_by="ann",
        )
        restore.complete(now() - timedelta(hours=1))
        session.add(restore)
    line = found("leftovers")
    assert line.state is WARNING
    assert "backstop_left" in line.told
