"""After a crash, catalogue and storage agree again; nothing complete is lost."""

import errno
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from app.config import settings as current_settings
from app.errors import Conflict, Interrupted, StorageError, VerificationError
from app.extensions import db, writing
from app.models import BackupStatus, DatabaseBackup, Trigger
from app.models.types import now
from app.postgres.conninfo import Conninfo, client_environment
from app.schemas import backup_row
from app.services import backups, claims, listing
from app.services.backup_run import record_failure
from app.services.databases import private_dir, storage
from app.services.reconcile import adopt, reconcile, tolerating

pytestmark = pytest.mark.usefixtures("context")

SOMEBODY_DEAD = "elsewhere 00000000-boot pid:[1] 1 1"


def make() -> DatabaseBackup:
    return backups.create_backup(trigger=Trigger.CLI, created_by="tester")


def folder() -> Path:
    return current_settings().backup_dir


def pending(claimed_by: str | None, lease: timedelta = timedelta(0)) -> DatabaseBackup:
    backup = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    with writing() as session:
        row = session.get_one(DatabaseBackup, backup.id)
        row.claimed_by = claimed_by
        row.lease_until = now() + lease
    return backup


def rewind(backup: DatabaseBackup, **values: object) -> None:
    """Put a finished backup's row back to where a kill could have left it."""
    with writing() as session:
        row = session.get_one(DatabaseBackup, backup.id)
        row.status = BackupStatus.PENDING
        row.size, row.sha256, row.oldest_reader = 0, "", None
        row.claimed_by, row.lease_until = SOMEBODY_DEAD, now() - timedelta(seconds=1)
        for name, value in values.items():
            setattr(row, name, value)


def me_with(**changes: object) -> str:
    """Our own claim with a part of it changed."""
    parts = dict(
        zip(("host", "boot", "namespace", "pid", "start"), claims.runner().split(" "), strict=True)
    )
    return " ".join(str(each) for each in (parts | changes).values())


def test_a_run_whose_lease_is_over_fails_as_interrupted():
    backup = pending(SOMEBODY_DEAD, timedelta(seconds=-1))
    report = reconcile()
    assert report.failed == [backup.filename]
    failed = listing.get_backup(backup.filename)
    assert failed.status is BackupStatus.FAILED
    assert "interrupted" in failed.error_message
    assert failed.error_hint


def test_a_run_on_another_host_is_left_alone_while_its_lease_lasts():
    backup = pending(SOMEBODY_DEAD, timedelta(seconds=30))
    assert reconcile().failed == []
    assert listing.get_backup(backup.filename).is_pending


def test_a_living_runner_of_this_host_is_left_alone():
    backup = pending(claims.runner(), timedelta(seconds=30))
    assert reconcile().failed == []
    assert listing.get_backup(backup.filename).is_pending


@pytest.mark.parametrize(
    "gone",
    [
        lambda: me_with(pid=next(n for n in range(4_000_000, 1, -1) if not psutil.pid_exists(n))),
        lambda: me_with(start="1"),
        lambda: me_with(boot="another-boot"),
    ],
    ids=["no such process", "the pid belongs to another process", "the machine was restarted"],
)
def test_a_dead_runner_of_this_host_is_known_before_its_lease_is_over(gone: Callable[[], str]):
    backup = pending(gone(), timedelta(seconds=50))
    assert reconcile().failed == [backup.filename]


def test_a_runner_in_another_container_is_judged_by_its_lease_alone():
    backup = pending(me_with(namespace="pid:[1]", pid=1, start="1"), timedelta(seconds=50))
    assert reconcile().failed == []
    assert listing.get_backup(backup.filename).is_pending


def test_a_runner_that_renewed_its_lease_after_it_was_judged_goes_on():
    backup = pending(claims.runner(), timedelta(seconds=30))
    judged = now() - timedelta(seconds=5)
    record_failure(backup.id, Interrupted("the backup was interrupted"), judged=judged)
    assert listing.get_backup(backup.filename).is_pending


def test_a_folder_that_cannot_be_tidied_is_an_error_that_can_be_told(
    monkeypatch: pytest.MonkeyPatch,
):
    make()
    (folder() / "backup_2026-01-01T00-00-00-000Z.dump.json").touch()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError):
        reconcile()
    with tolerating():
        reconcile()


def test_a_backup_in_the_way_of_a_dead_runner_does_not_block_the_next():
    dead = pending(me_with(start="1"), timedelta(seconds=50))
    assert make().status is BackupStatus.COMPLETED
    assert listing.get_backup(dead.filename).status is BackupStatus.FAILED


def test_a_published_dump_is_rolled_forward():
    backup = make()
    was = (backup.size, backup.sha256, backup.oldest_reader)
    rewind(backup)
    report = reconcile()
    assert report.completed == [backup.filename]
    found = listing.get_backup(backup.filename)
    assert found.status is BackupStatus.COMPLETED
    assert (found.size, found.sha256, found.oldest_reader) == was


def test_a_dump_published_by_a_runner_taken_for_dead_is_rolled_forward():
    backup = make()
    rewind(backup, status=BackupStatus.FAILED, claimed_by=None, error_message="interrupted")
    assert reconcile().completed == [backup.filename]
    found = listing.get_backup(backup.filename)
    assert found.status is BackupStatus.COMPLETED
    assert found.error_message == ""


@pytest.mark.parametrize("damage", ["shortened dump", "changed manifest", "no manifest"])
def test_what_does_not_fit_its_manifest_is_not_rolled_forward(damage: str):
    backup = make()
    rewind(backup)
    manifest = folder() / f"{backup.filename}.json"
    if damage == "shortened dump":
        (folder() / backup.filename).write_bytes(b"PGDMP")
    elif damage == "changed manifest":
        manifest.write_bytes(manifest.read_bytes().replace(b'"size": ', b'"size": 9'))
    else:
        manifest.unlink()
    assert reconcile().failed == [backup.filename]
    assert (folder() / backup.filename).exists(), "a file is never deleted by a guess"


def test_a_manifest_without_its_dump_is_removed():
    backup = make()
    (folder() / backup.filename).unlink()
    with writing() as session:
        session.delete(session.get_one(DatabaseBackup, backup.id))
    assert reconcile().removed == [f"{backup.filename}.json"]
    assert not (folder() / f"{backup.filename}.json").exists()


def test_a_partial_of_nobody_is_removed_and_one_being_written_stays():
    mine = storage().stage("backup_2026-01-01T00-00-00-000Z.dump")
    nobodys = folder() / ".partial" / "backup_2026-01-01T00-00-00-001Z.dump"
    nobodys.write_bytes(b"half")
    try:
        assert reconcile().removed == [nobodys.name]
        assert mine.path.exists()
        assert not nobodys.exists()
    finally:
        storage().discard(mine)


def test_a_complete_file_without_a_row_is_reported_and_kept():
    backup = make()
    with writing() as session:
        session.delete(session.get_one(DatabaseBackup, backup.id))
    report = reconcile()
    assert report.unknown == [backup.filename]
    assert (folder() / backup.filename).exists()
    assert (folder() / f"{backup.filename}.json").exists()


@pytest.mark.parametrize("left", ["everything", "manifest", "nothing"])
def test_an_interrupted_delete_is_finished(left: str):
    backup, other = make(), make()
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).delete_requested_at = now()
    if left != "everything":
        (folder() / backup.filename).unlink()
    if left == "nothing":
        (folder() / f"{backup.filename}.json").unlink()

    assert reconcile().deleted == [backup.filename]

    assert db.session.get(DatabaseBackup, backup.id) is None
    assert not (folder() / backup.filename).exists()
    assert not (folder() / f"{backup.filename}.json").exists()
    assert listing.has_file(listing.get_backup(other.filename))


def test_a_delete_that_cannot_be_finished_stops_nothing_else():
    stuck, other = make(), make()
    for backup in (stuck, other):
        with writing() as session:
            session.get_one(DatabaseBackup, backup.id).delete_requested_at = now()
    (folder() / stuck.filename).unlink()
    (folder() / stuck.filename).mkdir()  # unlink refuses a folder
    assert reconcile().deleted == [other.filename]


def test_password_files_of_the_dead_are_removed():
    with client_environment(Conninfo({}, "pw"), private_dir()) as ours:
        dead = private_dir() / "pgpass-4194303abc"
        dead.write_text("*:*:*:*:secret")
        reconcile()
        assert not dead.exists()
        assert Path(ours["PGPASSFILE"]).exists()


def test_reconcile_changes_nothing_when_all_is_well():
    backup = make()
    before = {path: path.read_bytes() for path in folder().iterdir() if path.is_file()}
    report = reconcile()
    assert (report.completed, report.failed, report.deleted) == ([], [], [])
    assert (report.removed, report.unknown) == ([], [])
    assert {path: path.read_bytes() for path in folder().iterdir() if path.is_file()} == before
    assert listing.get_backup(backup.filename).is_completed


def test_a_complete_file_is_adopted_from_its_manifest():
    backup = make()
    was = backup_row(listing.get_backup(backup.filename))
    with writing() as session:
        session.delete(session.get_one(DatabaseBackup, backup.id))
    adopt(backup.filename)
    found = backup_row(listing.get_backup(backup.filename))
    differing = {key for key in was if was[key] != found[key]}
    assert differing <= {"finishedAt"}
    assert reconcile().unknown == []
    with pytest.raises(Conflict):
        adopt(backup.filename)


def test_a_file_that_does_not_fit_its_manifest_is_not_adopted():
    backup = make()
    with writing() as session:
        session.delete(session.get_one(DatabaseBackup, backup.id))
    (folder() / backup.filename).write_bytes(b"PGDMP")
    with pytest.raises(VerificationError):
        adopt(backup.filename)
