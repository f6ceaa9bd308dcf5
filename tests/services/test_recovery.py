"""After a crash, catalogue and storage agree again; nothing complete is lost."""

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg2
import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from app.config import settings as current_settings
from app.errors import Conflict, Interrupted, StorageError, VerificationError
from app.extensions import db, writing
from app.logs import errors_logged
from app.models import DatabaseBackup, Kind, Restore, Status, Trigger
from app.models.types import now
from app.postgres.conninfo import Conninfo, client_environment
from app.schemas.jobs import backup_row
from app.services.backups import listing
from app.services.backups import recovery as backup_recovery
from app.services.backups import service as backups
from app.services.backups.manifests import read_manifest
from app.services.backups.publication import end_sessions_of, record_success, renew_manifest
from app.services.backups.recovery import adopt
from app.services.databases.configured import private_dir, storage
from app.services.jobs import claims
from app.services.jobs.outcomes import record_failure
from app.services.recovery import reconcile
from app.storages import local
from tests.conftest import Database, database_id, sessions

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
        row.status = Status.PENDING
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
    assert failed.status is Status.FAILED
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
    with errors_logged("reconcile"):
        reconcile()


def test_a_backup_in_the_way_of_a_dead_runner_does_not_block_the_next():
    dead = pending(me_with(start="1"), timedelta(seconds=50))
    assert make().status is Status.COMPLETED
    assert listing.get_backup(dead.filename).status is Status.FAILED


def test_a_backup_in_the_way_of_a_dead_runner_does_not_block_a_queued_one_either():
    dead = pending(me_with(start="1"), timedelta(seconds=50))
    queued = backups.queue_backup(trigger=Trigger.API, created_by="bob")
    assert queued.is_pending
    assert listing.get_backup(dead.filename).status is Status.FAILED


def test_a_published_dump_is_rolled_forward():
    backup = make()
    was = (backup.size, backup.sha256, backup.oldest_reader)
    rewind(backup)
    report = reconcile()
    assert report.completed == [backup.filename]
    found = listing.get_backup(backup.filename)
    assert found.status is Status.COMPLETED
    assert (found.size, found.sha256, found.oldest_reader) == was


def test_a_dump_published_by_a_runner_taken_for_dead_is_rolled_forward():
    backup = make()
    rewind(backup, status=Status.FAILED, claimed_by=None, error_message="interrupted")
    assert reconcile().completed == [backup.filename]
    found = listing.get_backup(backup.filename)
    assert found.status is Status.COMPLETED
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


# What a dead runner left at work


@pytest.fixture
def program() -> Iterator["subprocess.Popen[bytes]"]:
    """A program that a dead runner could have left behind, in a process group of its own."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        yield child
        child.kill()


@pytest.mark.parametrize("published", [False, True])
def test_the_program_of_a_dead_runner_is_ended_and_told(
    program: "subprocess.Popen[bytes]", published: bool
):
    its = claims.identity(program.pid)
    if published:
        backup = make()
        rewind(backup, process=its)
    else:
        backup = pending(SOMEBODY_DEAD, timedelta(seconds=-1))
        with writing() as session:
            session.get_one(DatabaseBackup, backup.id).process = its
    report = reconcile()
    assert report.ended == [backup.filename]
    assert program.wait(5) < 0
    assert (report.completed if published else report.failed) == [backup.filename]
    assert listing.get_backup(backup.filename).process is None
    assert reconcile().ended == []


@pytest.mark.parametrize("lives", [False, True])
def test_the_program_of_a_restore_ends_with_its_runner(
    program: "subprocess.Popen[bytes]", lives: bool
):
    restore = Restore(
        filename="backup_a.dump",
        kind=Kind.DRILL,
        server="s:5432",
        database="shop",
        working="backstop_planted",
        trigger=Trigger.API,
        claimed_by=claims.runner() if lives else SOMEBODY_DEAD,
        lease_until=now() + timedelta(seconds=30 if lives else -1),
        process=claims.identity(program.pid),
    )
    with writing() as session:
        session.add(restore)
    report = reconcile()
    found = db.session.get_one(Restore, restore.id)
    if lives:
        assert (report.ended, report.failed, program.poll()) == ([], [], None)
        assert found.is_pending
    else:
        assert (report.ended, report.failed) == (["backup_a.dump"], ["backup_a.dump"])
        assert program.wait(5) < 0
        assert found.status is Status.FAILED


def test_a_program_that_is_another_one_by_now_is_neither_ended_nor_told(
    program: "subprocess.Popen[bytes]",
):
    *others, start = claims.identity(program.pid).split(" ")
    backup = pending(SOMEBODY_DEAD, timedelta(seconds=-1))
    with writing() as session:
        row = session.get_one(DatabaseBackup, backup.id)
        row.process = " ".join([*others, str(int(start) + 1)])
    report = reconcile()
    assert (report.failed, report.ended) == ([backup.filename], [])
    assert program.poll() is None


def test_the_program_of_a_living_runner_goes_on(program: "subprocess.Popen[bytes]"):
    backup = pending(claims.runner(), timedelta(seconds=30))
    with writing() as session:
        row = session.get_one(DatabaseBackup, backup.id)
        row.process = claims.identity(program.pid)
    assert reconcile().ended == []
    assert program.poll() is None


def test_a_runner_that_renews_its_lease_while_it_is_judged_keeps_program_and_sessions(
    program: "subprocess.Popen[bytes]", shop: Database, monkeypatch: pytest.MonkeyPatch
):
    backup = pending(SOMEBODY_DEAD, timedelta(seconds=-1))
    published, other = backup_recovery.published, database_id(backup.server, "zzz")

    def renewed(filename: str) -> object:
        if filename == backup.filename:
            with writing() as session:
                row = session.get_one(DatabaseBackup, backup.id)
                row.lease_until = now() + timedelta(seconds=30)
        return published(filename)

    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).process = claims.identity(program.pid)
        dead = DatabaseBackup(
            filename="backup_of_another.dump",
            database_id=other,
            server=backup.server,
            database="zzz",
            trigger=Trigger.CLI,
            claimed_by=SOMEBODY_DEAD,
            lease_until=now() - timedelta(seconds=1),
        )
        session.add(dead)
    monkeypatch.setattr(backup_recovery, "published", renewed)
    with closing(psycopg2.connect(shop.url, application_name=f"backstop {backup.filename}")):
        report = reconcile()
        assert sessions(shop, backup.filename) == 1
    assert (report.failed, report.ended) == (["backup_of_another.dump"], [])
    assert program.poll() is None
    assert listing.get_backup(backup.filename).is_pending


def test_what_a_dead_runner_still_does_on_the_server_is_ended(shop: Database):
    backup = pending(SOMEBODY_DEAD, timedelta(seconds=-1))
    other = psycopg2.connect(shop.url, application_name="backstop another.dump")
    left = psycopg2.connect(shop.url, application_name=f"backstop {backup.filename}")
    with closing(other), closing(left):
        assert sessions(shop, backup.filename) == 1
        reconcile()
        assert sessions(shop, backup.filename) == 0
        assert sessions(shop, "another.dump") == 1


@pytest.mark.parametrize(
    "elsewhere", [{"server": "elsewhere:5432"}, {"database": "another"}], ids=["server", "database"]
)
def test_sessions_are_not_looked_for_on_a_server_that_is_not_the_backups(
    elsewhere: dict[str, str], shop: Database
):
    backup = pending(SOMEBODY_DEAD, timedelta(seconds=-1))
    address = {"server": backup.server, "database": backup.database} | elsewhere
    other = database_id(address["server"], address["database"])
    with writing() as session:
        row = session.get_one(DatabaseBackup, backup.id)
        row.server, row.database = address["server"], address["database"]
        row.database_id = other
    with closing(psycopg2.connect(shop.url, application_name=f"backstop {backup.filename}")):
        end_sessions_of(backup.id)
        end_sessions_of("nobody")
        assert sessions(shop, backup.filename) == 1


def test_a_server_that_is_away_stops_no_reconcile(make_app, caplog: pytest.LogCaptureFixture):
    with make_app(database_url="postgresql://u:secret-pw@127.0.0.1:1/shop").app_context():
        backup = pending(SOMEBODY_DEAD, timedelta(seconds=-1))
        assert reconcile().failed == [backup.filename]
    assert f"sessions not ended filename={backup.filename}" in caplog.text
    assert "secret-pw" not in caplog.text


def test_all_that_dead_runners_left_is_settled_whatever_became_of_one_of_them():
    done = make()
    rewind(done, database="another")
    failed = pending(SOMEBODY_DEAD, timedelta(seconds=-1))
    report = reconcile()
    assert (report.completed, report.failed) == ([done.filename], [failed.filename])


# Roll forward


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_a_name_is_made_durable_before_its_row_is_rolled_forward(
    status: Status, monkeypatch: pytest.MonkeyPatch
):
    backup = make()
    claimed = {} if status is Status.PENDING else {"claimed_by": None, "lease_until": None}
    rewind(backup, status=status, **claimed)
    synced: list[tuple[str, Status]] = []
    fsync = os.fsync

    def told(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((str(path), listing.get_backup(backup.filename).status))
        db.session.commit()
        fsync(descriptor)

    monkeypatch.setattr(local.os, "fsync", told)
    assert reconcile().completed == [backup.filename]
    assert synced[0] == (str(folder()), status)
    assert listing.get_backup(backup.filename).is_completed


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_a_name_that_cannot_be_made_durable_is_not_rolled_forward(
    status: Status, monkeypatch: pytest.MonkeyPatch
):
    backup = make()
    claimed = {} if status is Status.PENDING else {"claimed_by": None, "lease_until": None}
    rewind(backup, status=status, **claimed)

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(local.os, "fsync", refuse)
    with pytest.raises(StorageError, match="cannot be made durable") as told:
        reconcile()
    assert "Input/output error" in told.value.detail
    monkeypatch.undo()
    assert listing.get_backup(backup.filename).status is status
    assert reconcile().completed == [backup.filename]


def test_a_manifest_that_tells_of_another_dump_rolls_nothing_forward():
    backup, other = make(), make()
    rewind(backup)
    told = (folder() / f"{other.filename}.json").read_bytes()
    (folder() / f"{backup.filename}.json").write_bytes(told)
    (folder() / backup.filename).write_bytes((folder() / other.filename).read_bytes())
    assert reconcile().failed == [backup.filename]
    assert (folder() / backup.filename).exists()


def test_a_failed_backup_whose_dump_does_not_fit_stays_failed():
    backup = make()
    rewind(backup, status=Status.FAILED, claimed_by=None)
    (folder() / backup.filename).write_bytes(b"PGDMP")
    report = reconcile()
    assert (report.completed, report.unknown) == ([], [])
    assert listing.get_backup(backup.filename).status is Status.FAILED


def test_a_backup_that_waits_is_not_rolled_forward_by_a_file_of_its_name():
    backup = make()
    rewind(backup, claimed_by=None, lease_until=None)
    report = reconcile()
    assert (report.completed, report.failed, report.unknown) == ([], [], [])
    assert listing.get_backup(backup.filename).is_pending


def test_what_is_rolled_forward_is_all_that_the_manifest_tells():
    backup = make()
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).created_by = "ann"
    renew_manifest(backup.id)
    was = backup_row(listing.get_backup(backup.filename))
    finished, log = (listing.get_backup(backup.filename).finished_at, backup.log)
    assert log
    rewind(
        backup,
        process="elsewhere boot - 1 1",
        created_by="nobody",
        error_message="a",
        error_detail="b",
        error_hint="c",
        finished_at=now() + timedelta(hours=1),
    )
    reconcile()
    found = listing.get_backup(backup.filename)
    assert backup_row(found) == was
    assert found.finished_at == finished
    assert (found.error_message, found.error_detail, found.error_hint) == ("", "", "")
    assert (found.claimed_by, found.lease_until, found.process) == (None, None, None)
    assert found.log == log


def test_success_is_recorded_once_with_its_log_and_of_what_is_there():
    backup = make()
    rewind(backup)
    record_success(backup.id, "the log of the run")
    assert listing.get_backup(backup.filename).log == "the log of the run"
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).notes = "edited"
    record_success(backup.id, "again")
    found = listing.get_backup(backup.filename)
    assert (found.log, found.notes) == ("the log of the run", "edited")
    record_success("nobody", "of a backup that was deleted")


def test_failure_is_recorded_once_with_its_log():
    backup = pending(SOMEBODY_DEAD)
    assert record_failure(backup.id, Interrupted("first", detail="d", hint="h"), "its log") is True
    assert record_failure(backup.id, Interrupted("second"), "another log") is False
    assert record_failure("nobody", Interrupted("third")) is False
    failed = listing.get_backup(backup.filename)
    assert (failed.error_message, failed.error_detail, failed.error_hint) == ("first", "d", "h")
    assert failed.log == "its log"


def test_failure_without_a_log_keeps_what_was_told_meanwhile():
    backup = pending(SOMEBODY_DEAD, timedelta(seconds=-1))
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).log = "so far"
    assert reconcile().failed == [backup.filename]
    assert listing.get_backup(backup.filename).log == "so far"


def test_an_error_of_a_cancelled_backup_that_is_no_interruption_is_told_as_it_is():
    backup = pending(SOMEBODY_DEAD)
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).cancelled_by = "ann"
    assert record_failure(backup.id, StorageError("the disk is full"))
    assert listing.get_backup(backup.filename).error_message == "the disk is full"


# Notes edited meanwhile


def its_manifest(backup: DatabaseBackup) -> dict[str, object]:
    return read_manifest((folder() / f"{backup.filename}.json").read_bytes())


def notes_of(backup: DatabaseBackup) -> tuple[str, object, bool]:
    """The notes in the row and in the manifest, and whether that has to be written anew."""
    db.session.expire_all()
    row = listing.get_backup(backup.filename)
    return row.notes, its_manifest(backup)["notes"], row.manifest_stale


def test_notes_edited_while_a_backup_waits_stand_in_row_and_manifest():
    backup = backups.queue_backup(trigger=Trigger.API, created_by="ann", notes="old")
    edited = backups.edit_notes(backup.filename, "new")
    assert (edited.notes, edited.manifest_stale) == ("new", True)
    assert list(folder().glob("*.json")) == []
    backups.run_backup.call_local(backup.id)
    assert notes_of(backup) == ("new", "new", False)


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_notes_edited_between_the_manifest_and_the_row_stand_in_both(status: Status):
    backup = make()
    sha256 = backup.sha256
    claimed = {} if status is Status.PENDING else {"claimed_by": None, "lease_until": None}
    rewind(backup, status=status, **claimed)
    backups.edit_notes(backup.filename, "new")
    assert notes_of(backup) == ("new", "", True)
    assert reconcile().completed == [backup.filename]
    assert notes_of(backup) == ("new", "new", False)
    assert its_manifest(backup)["sha256"] == listing.get_backup(backup.filename).sha256 == sha256


def test_notes_that_were_not_edited_come_from_the_manifest():
    backup = make()
    backups.edit_notes(backup.filename, "in the manifest")
    rewind(backup, notes="lost")
    reconcile()
    assert notes_of(backup) == ("in the manifest", "in the manifest", False)


def test_a_manifest_that_is_due_is_written_at_the_next_reconcile():
    due, other = make(), make()
    with writing() as session:
        row = session.get_one(DatabaseBackup, due.id)
        row.notes, row.manifest_stale = "new", True
        session.get_one(DatabaseBackup, other.id).notes = "not due"
    reconcile()
    assert notes_of(due) == ("new", "new", False)
    assert notes_of(other) == ("not due", "", False)


def test_a_manifest_that_cannot_be_written_stays_due_and_stops_nothing_else():
    stuck, other = make(), make()
    manifest = folder() / f"{stuck.filename}.json"
    manifest.unlink()
    manifest.mkdir()
    with writing() as session:
        for each in (stuck, other):
            row = session.get_one(DatabaseBackup, each.id)
            row.notes, row.manifest_stale = "new", True
    with pytest.raises(StorageError):
        backups.edit_notes(stuck.filename, "newer")
    reconcile()
    assert notes_of(other) == ("new", "new", False)
    assert listing.get_backup(stuck.filename).manifest_stale
    assert listing.get_backup(stuck.filename).notes == "newer"
    manifest.rmdir()
    reconcile()
    assert notes_of(stuck) == ("newer", "newer", False)


def test_a_manifest_without_its_dump_is_not_written_anew():
    backup = make()
    (folder() / backup.filename).unlink()
    (folder() / f"{backup.filename}.json").unlink()
    backups.edit_notes(backup.filename, "new")
    assert list(folder().glob("*.json")) == []
    assert not listing.get_backup(backup.filename).manifest_stale
    renew_manifest("nobody")


@pytest.mark.parametrize("meanwhile", ["a manifest is written anew", "a success is recorded"])
def test_of_two_who_write_at_once_the_later_notes_stand_in_row_and_manifest(
    meanwhile: str, app: Flask, monkeypatch: pytest.MonkeyPatch
):
    backup = make()
    begun = threading.Event()

    def edit() -> None:
        assert begun.wait(20)
        with app.app_context():
            backups.edit_notes(backup.filename, "later")
            db.session.remove()

    editor = threading.Thread(target=edit)
    editor.start()

    def slowly(real: Callable[..., None]) -> Callable[..., None]:
        def step(*words: object) -> None:
            if not begun.is_set():
                begun.set()
                editor.join(1)  # it would be through by then, if the row were not locked
            real(*words)

        return step

    if meanwhile == "a success is recorded":
        rewind(backup)
        patched = (DatabaseBackup, "complete")
    else:
        with writing() as session:
            row = session.get_one(DatabaseBackup, backup.id)
            row.notes, row.manifest_stale = "earlier", True
        patched = (local.LocalStorage, "replace_manifest")
    monkeypatch.setattr(*patched, slowly(getattr(*patched)))
    if meanwhile == "a success is recorded":
        record_success(backup.id)
    else:
        renew_manifest(backup.id)
    editor.join(20)
    assert notes_of(backup) == ("later", "later", False)


# Deletes and leftovers


def test_a_delete_that_somebody_else_finished_meanwhile_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
):
    backup = make()
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).delete_requested_at = now()
    delete = local.LocalStorage.delete

    def with_another(self: local.LocalStorage, name: str) -> None:
        delete(self, name)
        with writing() as session:
            session.delete(session.get_one(DatabaseBackup, backup.id))

    monkeypatch.setattr(local.LocalStorage, "delete", with_another)
    assert reconcile().deleted == [backup.filename]


def test_partials_and_lone_manifests_are_told_together():
    (folder() / ".partial").mkdir(parents=True)
    names = [
        "backup_2026-01-01T00-00-00-000Z.dump",
        "backup_2026-01-01T00-00-00-001Z.dump.json",
    ]
    (folder() / ".partial" / names[0]).touch()
    (folder() / names[1]).touch()
    assert reconcile().removed == names
    assert reconcile().removed == []


# What is told, and to whom


def test_what_cannot_be_adopted_is_told_with_what_helps():
    backup = make()
    db.session.refresh(backup)
    db.session.expunge_all()
    with pytest.raises(Conflict, match=f"{backup.filename} is in the catalogue already"):
        adopt(backup.filename)
    with writing() as session:
        session.delete(session.get_one(DatabaseBackup, backup.id))
    (folder() / f"{backup.filename}.json").unlink()
    with pytest.raises(VerificationError, match=f"{backup.filename} has no manifest") as told:
        adopt(backup.filename)
    assert told.value.hint == ("It may still be whole; pg_restore reads it without the panel.")
    assert listing.list_backups().backups == []


def test_an_adopted_dump_is_completed_and_durable(monkeypatch: pytest.MonkeyPatch):
    backup = make()
    with writing() as session:
        session.delete(session.get_one(DatabaseBackup, backup.id))
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(local.os, "fsync", lambda number: (synced.append(number), fsync(number)))
    adopt(backup.filename)
    assert synced
    assert listing.get_backup(backup.filename).is_completed


def test_a_catalogue_that_is_away_is_tolerated_and_told(caplog: pytest.LogCaptureFixture):
    with errors_logged("reconcile"):
        raise OperationalError("SELECT", {}, Exception("database is locked"))
    assert "reconcile failed error='database is locked'" in caplog.text
    with errors_logged("reconcile"):
        raise StorageError("the folder is gone", hint="Mount it.")
    assert "reconcile failed error='the folder is gone' detail='' hint='Mount it.'" in caplog.text
    with errors_logged("reconcile"):  # whoever looks after others goes on
        raise ZeroDivisionError
    assert "ZeroDivisionError" in caplog.text


# Again and again


def test_who_asks_again_and_again_looks_at_files_only_where_a_name_came_or_went(
    monkeypatch: pytest.MonkeyPatch,
):
    make()
    looks = []
    look = local.LocalStorage.names
    monkeypatch.setattr(local.LocalStorage, "names", lambda self: looks.append(1) or look(self))
    long_ago = now().timestamp() - 60
    os.utime(folder(), (long_ago, long_ago))
    for _ in range(3):
        reconcile(thorough=False)
    assert len(looks) == 1
    (folder() / "foreign.dump").write_bytes(b"PGDMP")
    assert reconcile(thorough=False).unknown == ["foreign.dump"]  # just now: it may change again
    assert reconcile(thorough=False).unknown == ["foreign.dump"]
    os.utime(folder(), (long_ago + 1, long_ago + 1))
    reconcile(thorough=False)
    assert reconcile(thorough=False).unknown == []
    assert reconcile().unknown == ["foreign.dump"]
    monkeypatch.setattr("app.services.backups.recovery._LOOK_EVERY", 0.0)
    assert reconcile(thorough=False).unknown == ["foreign.dump"]
