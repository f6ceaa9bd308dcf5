"""Who runs a backup, and what happens to a runner that lost it."""

import threading
from datetime import timedelta

import pytest
from flask import Flask

from app.errors import Interrupted
from app.extensions import writing
from app.models import BackupStatus, DatabaseBackup, Trigger
from app.models.types import now
from app.services import backups, claims, listing
from app.services.databases import storage
from app.services.runs import Run

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
    assert failed.status is BackupStatus.FAILED
    assert "told to stop" in failed.error_detail
    assert storage().list() == {}


def test_lost_tasks_are_found_again(worker: None):
    backup = queued()
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).created_at -= timedelta(minutes=1)
    backups.queue.storage.flush_queue()
    backups.run_unclaimed()
    assert backups.wait_for_backup(backup.id, 30).is_completed
