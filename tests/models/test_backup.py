"""Rules about one row."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.exc import IntegrityError, StatementError

from app.errors import DumpError
from app.extensions import db, writing
from app.models import BackupStatus, DatabaseBackup, Trigger
from app.models.backup import filename_of

pytestmark = pytest.mark.usefixtures("context")


def row(filename: str = "backup_a.dump", **values: object) -> DatabaseBackup:
    defaults: dict[str, object] = {"server": "s:5432", "database": "d", "trigger": Trigger.CLI}
    return DatabaseBackup(filename=filename, **(defaults | values))


def keep(backup: DatabaseBackup) -> DatabaseBackup:
    with writing() as session:
        session.add(backup)
    db.session.expire_all()
    return db.session.get_one(DatabaseBackup, backup.id)


def test_the_name_of_a_file_is_its_moment():
    moment = datetime(2026, 11, 3, 4, 5, 6, 78_000, UTC)
    assert filename_of(moment) == "backup_2026-11-03T04-05-06-078Z.dump"


def test_a_new_row_is_pending_with_an_id_and_no_size():
    kept = keep(row())
    assert len(kept.id) == 24
    assert kept.status is BackupStatus.PENDING
    assert kept.size == 0
    assert kept.created_at.tzinfo is UTC


def test_times_come_back_in_utc_whatever_their_zone():
    moment = datetime(2026, 7, 1, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    kept = keep(row(created_at=moment))
    assert kept.created_at == moment
    assert kept.created_at.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(StatementError, match="without a zone"):
        keep(row(created_at=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_sizes_beyond_four_gigabytes_are_kept():
    assert keep(row(size=5_000_000_000_000)).size == 5_000_000_000_000


def test_one_pending_row_per_database():
    keep(row("backup_a.dump"))
    with pytest.raises(IntegrityError):
        keep(row("backup_b.dump"))
    keep(row("backup_c.dump", database="other"))
    keep(row("backup_d.dump", server="other:5432"))
    keep(row("backup_e.dump", status=BackupStatus.FAILED))


def test_a_failure_clears_what_only_a_dump_has():
    backup = keep(row(size=5, sha256="ab"))
    with writing():
        backup.claim("me")
        backup.fail(DumpError("pg_dump failed", detail="Why.", hint="What to do."))
    assert (backup.status, backup.size, backup.sha256) == (BackupStatus.FAILED, 0, "")
    assert (backup.error_message, backup.error_hint) == ("pg_dump failed", "What to do.")
    assert backup.claimed_by is None
    assert backup.duration is not None


def test_the_log_is_not_read_with_the_list():
    keep(row(log="x" * 100_000))
    db.session.expunge_all()
    listed = db.session.scalars(db.select(DatabaseBackup)).one()
    assert "log" in db.inspect(listed).unloaded
