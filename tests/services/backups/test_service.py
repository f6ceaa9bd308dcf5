"""The shared backup service, through to the files and the server."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask

from app.config import settings as current_settings
from app.errors import (
    Conflict,
    Interrupted,
    InvalidInput,
    NotFound,
    ObjectMissing,
    VerificationError,
)
from app.extensions import db, writing
from app.models import DatabaseBackup, Status, Trigger
from app.models.backup import filename_of
from app.models.types import now
from app.services.backups import listing
from app.services.backups import queue as backup_queue
from app.services.backups import service as backups
from app.services.backups.filters import Filters
from app.services.backups.manifests import read_manifest
from app.services.databases.lookup import default_database
from app.services.jobs import claims
from app.storages.local import LocalStorage
from tests.conftest import Database, database_id, url_of

pytestmark = pytest.mark.usefixtures("context")


def make(notes: str = "") -> DatabaseBackup:
    return backups.create_backup(trigger=Trigger.CLI, created_by="tester", notes=notes)


def folder() -> Path:
    return current_settings().backup_dir


def files() -> list[str]:
    return sorted(path.name for path in folder().glob("*") if path.is_file())


def test_a_backup_is_made_checked_and_published():
    backup = make("before the migration")

    assert backup.status is Status.COMPLETED
    assert files() == [backup.filename, f"{backup.filename}.json"]
    assert (folder() / backup.filename).read_bytes()[:5] == b"PGDMP"
    assert (folder() / backup.filename).stat().st_size == backup.size
    assert (folder() / backup.filename).stat().st_mode & 0o777 == 0o600
    assert list((folder() / ".partial").iterdir()) == []
    assert backup.notes == "before the migration"
    assert 'dumping contents of table "public.orders"' in backup.log
    assert backup.claimed_by is None
    assert backup.duration is not None
    assert backup.proven


def test_the_filename_is_the_moment_in_utc_with_milliseconds():
    backup = make()
    moment = backup.created_at
    milliseconds = f"{moment.microsecond // 1000:03d}"
    assert backup.filename == f"backup_{moment:%Y-%m-%dT%H-%M-%S}-{milliseconds}Z.dump"


def test_two_backups_in_one_millisecond_do_not_collide(monkeypatch: pytest.MonkeyPatch):
    moment = now()
    monkeypatch.setattr(backup_queue, "now", lambda: moment)
    first, second = make(), make()
    assert first.filename != second.filename
    assert second.created_at - first.created_at == timedelta(milliseconds=1)


def test_where_every_name_is_taken_none_is_made(monkeypatch: pytest.MonkeyPatch):
    taken = make()
    monkeypatch.setattr(backup_queue, "filename_of", lambda moment: taken.filename)
    monkeypatch.setattr(backup_queue, "range", lambda times: range(times // 250), raising=False)
    with pytest.raises(Conflict, match="no free name for a backup within a second"):
        make()
    assert listing.list_backups().backups == [listing.get_backup(taken.filename)]


def test_a_second_backup_learns_which_one_is_in_the_way():
    first = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    with pytest.raises(Conflict) as refused:
        backups.queue_backup(trigger=Trigger.ADMIN, created_by="bob")
    assert first.filename in refused.value.message
    assert "ann" in refused.value.detail
    with pytest.raises(Conflict, match=first.filename):
        make()


def test_the_terminal_runs_a_backup_that_no_worker_took():
    forgotten = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    with writing() as session:
        session.get_one(DatabaseBackup, forgotten.id).created_at -= timedelta(minutes=5)

    backup = make()

    assert backup.status is Status.COMPLETED
    assert listing.get_backup(forgotten.filename).status is Status.COMPLETED


def test_a_backup_runs_once_however_often_its_task_is_delivered():
    queued = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    backups.run_backup.call_local(queued.id)
    finished = listing.get_backup(queued.filename).finished_at
    backups.run_backup.call_local(queued.id)
    assert listing.get_backup(queued.filename).finished_at == finished


@pytest.mark.parametrize(
    "notes", ["x" * 2001, "bell \a", "null \0", "escape \x1b[31m", "half a pair \ud800"]
)
def test_notes_that_cannot_be_kept_are_refused(notes: str):
    with pytest.raises(InvalidInput):
        make(notes)
    assert listing.list_backups().backups == []


def test_notes_keep_lines_quotes_and_all_languages():
    notes = 'line one\nline two\t\'; DROP TABLE x; --\n"quoted" ünïcödé 日本語 🐘'
    assert make(notes).notes == notes


def test_notes_can_be_edited_in_row_and_manifest():
    backup = make("old")
    backups.edit_notes(backup.filename, "new")
    assert listing.get_backup(backup.filename).notes == "new"
    manifest = read_manifest((folder() / f"{backup.filename}.json").read_bytes())
    assert manifest["notes"] == "new"
    assert manifest["sha256"] == backup.sha256


def test_the_list_is_newest_first_and_pages_do_not_overlap():
    made = [make().filename for _ in range(5)]
    first = listing.list_backups(limit=2)
    second = listing.list_backups(limit=2, before=first.next_before)
    third = listing.list_backups(limit=2, before=second.next_before)
    listed = [each.filename for page in (first, second, third) for each in page.backups]
    assert listed == made[::-1]
    assert third.next_before is None


def test_who_is_refused_goes_through_no_files(monkeypatch: pytest.MonkeyPatch):
    """Schedules may be refused by the dozen, where a hundred thousand dumps lie."""
    backups.queue_backup(trigger=Trigger.CLI, created_by="ann")
    asked: list[object] = []
    for look in ("sizes", "names"):
        monkeypatch.setattr(LocalStorage, look, lambda *_: asked.append(1) or {})
    with pytest.raises(Conflict):
        backups.queue_backup(trigger=Trigger.CLI, created_by="ann")
    assert not asked


def test_the_list_can_be_searched_whatever_the_case():
    make("Before the BIG migration")
    make("Vor der GROSSEN Änderung")
    assert len(listing.list_backups(Filters(query="großen ÄNDERUNG")).backups) == 0
    assert len(listing.list_backups(Filters(query="grossen Änderung")).backups) == 1
    if db.engine.dialect.name == "sqlite":  # PostgreSQL knows the letters of its locale
        assert len(listing.list_backups(Filters(query="grossen äNDERUNG")).backups) == 1
    make("100% sure_thing")
    assert len(listing.list_backups(Filters(query="big MIGRATION")).backups) == 1
    assert len(listing.list_backups(Filters(query="100% sure_")).backups) == 1
    assert len(listing.list_backups(Filters(query="%")).backups) == 1
    assert listing.list_backups(Filters(query="100_ sure")).backups == []
    assert listing.list_backups(Filters(status=Status.FAILED)).backups == []


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_senseless_limit_is_refused(limit: int):
    with pytest.raises(InvalidInput):
        listing.list_backups(limit=limit)


@pytest.mark.parametrize("before", ["x", "2026-99-99~a", "~", "9999999-01-01T00:00:00Z~a"])
def test_a_senseless_cursor_is_refused(before: str):
    with pytest.raises(InvalidInput):
        listing.list_backups(before=before)


def test_a_dump_is_opened_as_it_was_published():
    backup = make()
    found, file = backups.open_backup(backup.filename)
    with file:
        assert file.read() == (folder() / backup.filename).read_bytes()
    assert found.id == backup.id


def test_a_missing_dump_is_told_apart_from_an_unknown_name():
    backup = make()
    (folder() / backup.filename).unlink()
    assert not listing.has_file(backup)
    with pytest.raises(ObjectMissing):
        backups.open_backup(backup.filename)
    with pytest.raises(NotFound):
        backups.open_backup("backup_2000-01-01T00-00-00-000Z.dump")


def test_a_shortened_dump_is_not_handed_out():
    backup = make()
    with (folder() / backup.filename).open("r+b") as file:
        file.truncate(backup.size - 1)
    with pytest.raises(VerificationError):
        backups.open_backup(backup.filename)


def test_delete_removes_dump_manifest_and_row():
    backup, other = make(), make()
    backups.delete_backup(backup.filename)
    assert files() == [other.filename, f"{other.filename}.json"]
    with pytest.raises(NotFound):
        listing.get_backup(backup.filename)


def test_delete_of_a_dump_that_is_gone_already_is_no_error():
    backup = make()
    (folder() / backup.filename).unlink()
    backups.delete_backup(backup.filename)
    assert files() == []


def test_delete_refuses_a_running_backup():
    queued = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    with pytest.raises(Conflict):
        backups.delete_backup(queued.filename)
    assert listing.get_backup(queued.filename).is_pending


def test_a_failed_backup_keeps_its_reason_and_leaves_no_file(
    make_app: Callable[..., Flask], shop: Database
):
    dead = make_app(database_url="postgresql://nobody:x@127.0.0.1:1/nowhere")
    with dead.app_context():
        backup = make()
        assert backup.status is Status.FAILED
        assert "no connection" in backup.error_message
        assert "Connection refused" in backup.error_detail
        assert "running" in backup.error_hint
        assert files() == []


def test_pg_dumps_own_failure_is_kept_with_its_log(
    make_app: Callable[..., Flask], shop: Database, server
):
    shop.run("CREATE TABLE secret_plans (id int)")
    shop.run("CREATE ROLE reader LOGIN PASSWORD 'reader pw'")
    shop.run("GRANT SELECT ON customers, orders TO reader")
    try:
        limited = make_app(database_url=url_of(server, shop.name, "reader", "reader pw"))
        with limited.app_context():
            backup = make()
            assert backup.status is Status.FAILED
            assert "permission denied for table secret_plans" in backup.error_detail
            assert "pg_read_all_data" in backup.error_hint
            assert "pg_dump: error" in backup.log
            assert files() == []
    finally:
        shop.run("DROP OWNED BY reader; DROP ROLE reader")


def test_an_exclusively_locked_table_fails_after_the_lock_timeout(
    make_app: Callable[..., Flask], shop: Database
):
    import psycopg2

    holder = psycopg2.connect(shop.url)
    try:
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        with make_app(lock_timeout=1).app_context():
            backup = make()
        assert backup.status is Status.FAILED
        assert "stayed locked" in backup.error_message
        assert "BACKSTOP_LOCK_TIMEOUT" in backup.error_hint
    finally:
        holder.close()


def test_another_panel_on_the_same_database_is_told_to_wait(
    make_app: Callable[..., Flask], shop: Database, tmp_path: Path
):
    import psycopg2

    from app.postgres.locking import LOCK

    other_panel = psycopg2.connect(shop.url)
    try:
        with other_panel.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        backup = make()
        assert backup.status is Status.FAILED
        assert "another panel" in backup.error_message
    finally:
        other_panel.close()
    assert make().status is Status.COMPLETED


def test_a_folder_that_cannot_be_written_fails_with_a_hint(
    make_app: Callable[..., Flask], tmp_path: Path
):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with make_app(backup_dir=in_the_way / "backups").app_context():
        backup = make()
        assert backup.status is Status.FAILED
        assert "BACKSTOP_BACKUP_DIR" in backup.error_hint


def test_a_worker_for_another_database_does_not_dump_it_under_this_name(
    make_app: Callable[..., Flask], new_database: Callable[..., Database]
):
    queued = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    other = new_database()
    with make_app(database_url=other.url).app_context():
        backups.run_backup.call_local(queued.id)
        failed = listing.get_backup(queued.filename)
    assert failed.status is Status.FAILED
    assert "DATABASE_URL names another database" in failed.error_message
    assert other.name in failed.error_detail
    assert "flask database edit" in failed.error_hint
    assert files() == []


def test_a_large_object_that_may_not_be_read_has_its_own_hint(
    make_app: Callable[..., Flask], shop: Database, server
):
    shop.run("SELECT lo_from_bytea(0, 'x')")
    shop.run("CREATE ROLE blobless LOGIN PASSWORD 'pw'")
    shop.run("GRANT pg_read_all_data TO blobless")
    try:
        with make_app(database_url=url_of(server, shop.name, "blobless", "pw")).app_context():
            backup = make()
        assert backup.status is Status.FAILED
        assert "permission denied for large object" in backup.error_detail
        assert "LARGE OBJECT" in backup.error_hint
    finally:
        shop.run("DROP OWNED BY blobless; DROP ROLE blobless")


def test_row_security_is_told_with_its_cure(make_app: Callable[..., Flask], shop: Database, server):
    shop.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    shop.run("CREATE ROLE partial LOGIN PASSWORD 'pw'")
    shop.run("GRANT pg_read_all_data TO partial")
    try:
        with make_app(database_url=url_of(server, shop.name, "partial", "pw")).app_context():
            backup = make()
        assert backup.status is Status.FAILED
        assert "BYPASSRLS" in backup.error_hint
        assert files() == []
    finally:
        shop.run("DROP OWNED BY partial; DROP ROLE partial")


def test_a_queue_that_cannot_be_woken_does_not_lose_the_backup(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise OSError("the queue is gone")

    monkeypatch.setattr(backups.queue.storage, "enqueue", broken)
    queued = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    monkeypatch.undo()
    assert listing.get_backup(queued.filename).is_pending


def test_waiting_ends_with_the_backup_or_the_patience():
    queued = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    assert backups.wait_for_backup(queued.id, 0.2).is_pending
    backups.run_backup.call_local(queued.id)
    assert backups.wait_for_backup(queued.id, 30).is_completed


def test_the_dump_is_of_one_moment_though_rows_change_meanwhile(shop: Database):
    backup = make()
    assert db.session.get(DatabaseBackup, backup.id) is not None
    assert backup.server_version
    assert backup.oldest_reader is not None


# Who is in whose way


def put(filename: str, **values: object) -> DatabaseBackup:
    """A pending row of the configured database, or of what is said."""
    ours = default_database()
    defaults = {
        "server": ours.server,
        "database": ours.dbname,
        "trigger": Trigger.CLI,
        "created_at": now() - timedelta(minutes=1),
    }
    backup = DatabaseBackup(filename=filename, **(defaults | values))
    backup.database_id = database_id(backup.server, backup.database)
    with writing() as session:
        session.add(backup)
    return listing.get_backup(filename)


def refused() -> Conflict:
    with pytest.raises(Conflict) as told:
        backups.queue_backup(trigger=Trigger.ADMIN, created_by="bob")
    return told.value


def test_a_backup_that_waits_and_is_in_the_way_is_told_with_what_helps():
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    put("backup_first.dump", trigger=Trigger.API, created_by="ann", created_at=moment)
    told = refused()
    database = default_database().dbname
    assert told.message == f'backup_first.dump of database "{database}" is still being made'
    assert told.detail == (
        "It was started over api by ann at 2026-01-02T03:04:05.678Z and waits for a worker."
    )
    assert told.hint == (
        "Wait until it has ended; if that never happens, start a worker: flask worker."
    )


def test_a_backup_that_runs_and_is_in_the_way_is_told_with_what_helps():
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    backup = put("backup_first.dump", trigger=Trigger.SCHEDULE, created_at=moment)
    assert claims.claim(backup.id)
    told = refused()
    assert told.detail == "It was started over schedule at 2026-01-02T03:04:05.678Z."
    assert told.hint == "Wait until it has ended."


def test_backups_of_other_databases_and_those_that_ended_are_in_nobodys_way():
    ours = default_database()
    put("backup_server.dump", server="elsewhere:5432")
    put("backup_database.dump", database="another")
    for status in (Status.COMPLETED, Status.FAILED):
        put(f"backup_{status.value}.dump", status=status)
    queued = backups.queue_backup(trigger=Trigger.API, created_by="ann", notes=" kept ")
    assert (queued.database_id, queued.server) == (ours.id, ours.server)
    assert queued.database == ours.dbname
    assert (queued.trigger, queued.created_by, queued.notes) == (Trigger.API, "ann", "kept")
    assert queued.filename == filename_of(queued.created_at)
    assert queued.is_pending


def test_one_more_than_the_limit_is_refused_and_named(make_app: Callable[..., Flask]):
    with make_app(max_jobs=2).app_context():
        put("backup_b.dump", database="a", created_at=now() - timedelta(minutes=1))
        put("backup_a.dump", database="b", created_at=now() - timedelta(minutes=2))
        put("backup_ended.dump", database="c", status=Status.FAILED)
        told = refused()
        assert told.message == "the limit of 2 backups is reached"
        assert told.detail == "The first is backup_a.dump."
        assert told.hint == "Wait until one has ended, cancel one, or raise BACKSTOP_MAX_JOBS."
        assert len(listing.list_backups().backups) == 3
        with writing():
            listing.get_backup("backup_a.dump").fail(Interrupted("ended"))
        assert backups.queue_backup(trigger=Trigger.API, created_by="ann").is_pending


def test_a_name_that_is_taken_makes_way_for_the_next_millisecond(monkeypatch: pytest.MonkeyPatch):
    moment = now()
    monkeypatch.setattr(backup_queue, "now", lambda: moment)
    taken = [filename_of(moment + timedelta(milliseconds=n)) for n in range(3)]
    for filename in taken:
        put(filename, status=Status.FAILED)
    queued = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    assert queued.created_at == moment + timedelta(milliseconds=3)
    assert queued.filename == filename_of(queued.created_at)


def test_a_name_that_is_taken_by_a_file_fails_the_backup_and_spares_the_file():
    queued = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    folder().mkdir(exist_ok=True)
    (folder() / queued.filename).write_bytes(b"of somebody else")
    backups.run_backup.call_local(queued.id)
    failed = listing.get_backup(queued.filename)
    assert failed.status is Status.FAILED
    assert "the name is taken already" in failed.error_message
    assert (folder() / queued.filename).read_bytes() == b"of somebody else"
    assert files() == [queued.filename]


def test_a_long_name_of_who_asked_is_cut_and_not_refused():
    queued = backups.queue_backup(trigger=Trigger.API, created_by="a" * 300)
    assert queued.created_by == "a" * 255


def test_only_pending_backups_of_our_database_that_nobody_took_for_long_are_forgotten_ones():
    minute = timedelta(minutes=1)
    put("backup_waits.dump", created_at=now() - minute)
    put("backup_ended.dump", status=Status.FAILED)
    put("backup_server.dump", server="elsewhere:5432")
    put("backup_database.dump", database="another")

    def forgotten(older_than: timedelta) -> list[str]:
        return [each.filename for each in backup_queue.list_unclaimed(older_than=older_than)]

    assert forgotten(minute / 2) == ["backup_waits.dump"]
    assert forgotten(minute * 2) == []
    backup = listing.get_backup("backup_waits.dump")
    assert claims.claim(backup.id)
    assert forgotten(minute / 2) == []
