"""Dumps are read again when their time has come, and what was damaged is told."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import update

from app.config import Settings
from app.config import settings as current_settings
from app.errors import Interrupted
from app.extensions import writing
from app.models import DatabaseBackup, Level, Proof, Result, Trigger, types
from app.models.types import now
from app.postgres import archive
from app.services.backups import listing
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from app.services.proofs.scrub import Scrubbed, scrub

pytestmark = pytest.mark.usefixtures("context")


def nothing() -> None:
    pass


def make(days: int) -> str:
    """A backup that was proven so many days ago."""
    made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    with writing() as session:
        then = now() - timedelta(days=days)
        session.execute(update(Proof).where(Proof.backup_id == made.id).values(proved_at=then))
    return made.filename


def newest_proof(filename: str) -> Proof:
    return proofs.list_proofs(listing.get_backup(filename).id)[0]


def what_is_told(filename: str) -> list[Result]:
    best = proofs.best_proofs([listing.get_backup(filename)])
    return [each.result for each in best.values()]


def test_the_dump_that_was_not_read_for_longest_comes_first():
    young, old, older = make(1), make(40), make(50)
    assert scrub(nothing) == Scrubbed(older, Result.PASSED, "")
    assert scrub(nothing) == Scrubbed(old, Result.PASSED, "")
    assert scrub(nothing) is None
    assert newest_proof(young).proved_at < now() - timedelta(hours=23)
    found = newest_proof(older)
    assert (found.level, found.result) == (Level.READ, Result.PASSED)
    assert found.evidence == {"differences": []}
    assert found.proved_at > now() - timedelta(minutes=1)


def test_a_dump_that_was_damaged_fails_its_proof():
    filename = make(31)
    path = current_settings().backup_dir / filename
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    reason = "the dump was changed since it was made"
    assert scrub(nothing) == Scrubbed(filename, Result.FAILED, reason)
    found = newest_proof(filename)
    assert found.result is Result.FAILED
    assert found.evidence["differences"]
    assert what_is_told(filename) == [Result.FAILED]


def test_a_dump_that_pg_restore_cannot_read_fails_its_proof():
    """The checksum fits, since it was damaged before it was taken."""
    filename = make(31)
    path = current_settings().backup_dir / filename
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 :] = b"x" * (len(raw) - len(raw) // 2)
    path.write_bytes(raw)
    with writing() as session:
        values = {"sha256": archive_sha(bytes(raw))}
        session.execute(update(DatabaseBackup).values(values))
    done = scrub(nothing)
    assert done is not None
    assert (done.filename, done.result) == (filename, Result.FAILED)


def archive_sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def no_file(settings: Settings, _tmp_path: Path, _patch: pytest.MonkeyPatch) -> Settings:
    for each in settings.backup_dir.glob("*.dump"):
        each.unlink()
    return settings


def no_disk(settings: Settings, tmp_path: Path, _patch: pytest.MonkeyPatch) -> Settings:
    return replace(settings, backup_dir=tmp_path / "not mounted")


def no_tools(settings: Settings, tmp_path: Path, _patch: pytest.MonkeyPatch) -> Settings:
    return replace(settings, pg_bin_dir=tmp_path / "nothing")


def no_time(settings: Settings, _tmp_path: Path, patch: pytest.MonkeyPatch) -> Settings:
    patch.setattr(archive, "_READ_SECONDS", -1000)
    return settings


def no_memory(settings: Settings, _tmp_path: Path, patch: pytest.MonkeyPatch) -> Settings:
    patch.setattr(archive, "_READ_MEMORY", 1024**2)
    return settings


Lack = Callable[[Settings, Path, pytest.MonkeyPatch], Settings]


@pytest.mark.parametrize("lack", [no_file, no_disk, no_tools, no_time, no_memory])
def test_what_is_not_the_dumps_fault_fails_no_proof(
    lack: Lack,
    settings: Settings,
    make_app: Callable[..., Flask],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    filename = make(31)
    lacking = lack(settings, tmp_path, monkeypatch)
    changes = {"backup_dir": lacking.backup_dir, "pg_bin_dir": lacking.pg_bin_dir}
    with make_app(**changes).app_context():
        done = scrub(nothing)
        assert done is not None
        assert (done.filename, done.result) == (filename, Result.NOT_POSSIBLE)
        assert done.reason
        assert what_is_told(filename) == [Result.PASSED]
        assert scrub(nothing) is None  # at once it would end the same way
        later = now() + timedelta(minutes=61)
        monkeypatch.setattr(types, "_clock", lambda: later)
        again = scrub(nothing)
        assert again is not None
        assert again.filename == filename
        found = proofs.list_proofs(listing.get_backup(filename).id)
        assert [each.result for each in found] == [Result.NOT_POSSIBLE, Result.PASSED]


def test_a_scrub_that_ends_with_its_process_shows_nothing():
    filename = make(31)

    def stop() -> None:
        raise Interrupted("the process ends")

    with pytest.raises(Interrupted):
        scrub(stop)
    assert [each.result for each in proofs.list_proofs(listing.get_backup(filename).id)] == [
        Result.PASSED
    ]
