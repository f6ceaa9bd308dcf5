"""Rules about one row."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.exc import IntegrityError, StatementError

from app.errors import DumpError, Interrupted
from app.extensions import db, writing
from app.models import DatabaseBackup, Status, Trigger
from app.models.backup import filename_of
from app.models.job import LEASE
from app.models.types import now
from app.storages.local import NAME

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
    assert kept.status is Status.PENDING
    assert kept.size == 0
    assert (kept.foreign, kept.manifest_stale) == (False, False)
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
    keep(row("backup_e.dump", status=Status.FAILED))


def test_a_failure_clears_what_only_a_dump_has():
    backup = keep(row(size=5, sha256="ab"))
    with writing():
        backup.claim("me")
        backup.fail(DumpError("pg_dump failed", detail="Why.", hint="What to do."))
    assert (backup.status, backup.size, backup.sha256) == (Status.FAILED, 0, "")
    assert (backup.error_message, backup.error_hint) == ("pg_dump failed", "What to do.")
    assert backup.claimed_by is None
    assert backup.duration is not None


def test_log_and_contents_are_not_read_with_the_list():
    keep(row(log="x" * 100_000, contents={"tables": ["x" * 100_000]}))
    db.session.expunge_all()
    listed = db.session.scalars(db.select(DatabaseBackup)).one()
    assert {"log", "contents"} <= db.inspect(listed).unloaded


@pytest.mark.parametrize(
    ("microsecond", "told"),
    [(0, "000"), (999, "000"), (1_000, "001"), (12_999, "012"), (999_999, "999")],
)
def test_the_name_of_a_file_tells_whole_milliseconds_and_can_be_stored(microsecond: int, told: str):
    name = filename_of(datetime(2026, 1, 2, 13, 4, 5, microsecond, UTC))
    assert name == f"backup_2026-01-02T13-04-05-{told}Z.dump"
    assert NAME.fullmatch(name)


def test_names_sort_as_their_moments():
    moment = datetime(2026, 12, 31, 23, 59, 59, 998_000, UTC)
    moments = [moment + timedelta(milliseconds=n) for n in range(5)]
    names = [filename_of(each) for each in moments]
    assert names == sorted(set(names))
    assert names[2] == "backup_2027-01-01T00-00-00-000Z.dump"


def test_a_claim_is_for_a_lease_and_begins_the_run():
    backup = keep(row())
    assert backup.duration is None
    before = now()
    with writing():
        backup.claim("me")
    assert backup.claimed_by == "me"
    assert backup.is_pending
    assert backup.started_at is not None
    assert backup.lease_until is not None
    assert before <= backup.started_at <= now()
    assert before + LEASE <= backup.lease_until <= now() + LEASE
    assert timedelta(0) <= backup.duration < timedelta(minutes=1)


def claimed() -> DatabaseBackup:
    backup = keep(row(size=5, sha256="ab", error_message="a", error_detail="b", error_hint="c"))
    with writing():
        backup.claim("me")
        backup.process, backup.progress = "elsewhere boot - 1 1", {"percent": 1.0}
    return backup


def is_free(backup: DatabaseBackup) -> bool:
    left = (backup.claimed_by, backup.lease_until, backup.process, backup.progress)
    return left == (None, None, None, None)


def test_what_is_completed_ended_when_it_did_and_has_no_error_and_no_runner():
    backup = claimed()
    assert backup.started_at is not None
    moment = backup.started_at + timedelta(seconds=3)
    with writing():
        backup.complete(moment)
    assert (backup.status, backup.is_completed) == (Status.COMPLETED, True)
    assert not backup.is_pending
    assert (backup.finished_at, backup.duration) == (moment, timedelta(seconds=3))
    assert (backup.error_message, backup.error_detail, backup.error_hint) == ("", "", "")
    assert (backup.size, backup.sha256) == (5, "ab")
    assert is_free(backup)


def test_what_failed_ended_now_and_says_why_and_has_no_runner():
    backup = claimed()
    before = now()
    with writing():
        backup.fail(Interrupted("it was stopped", detail="By ann.", hint="Start it again."))
    assert (backup.is_completed, backup.is_pending) == (False, False)
    assert backup.finished_at is not None
    assert before <= backup.finished_at <= now()
    told = (backup.error_message, backup.error_detail, backup.error_hint)
    assert told == ("it was stopped", "By ann.", "Start it again.")
    assert is_free(backup)


def test_states_and_triggers_are_kept_by_their_words():
    keep(row())
    kept = db.session.execute(
        db.text("SELECT status, trigger FROM database_backups WHERE filename = 'backup_a.dump'")
    ).one()
    assert tuple(kept) == ("PENDING", "cli")
