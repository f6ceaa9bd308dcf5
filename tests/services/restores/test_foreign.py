"""A dump of somebody else: taken in, shown for what it brings, and never restored with power."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.errors import Conflict, InvalidInput, NotFound
from app.models import Kind, Level, Result
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.tools import Toolchain
from app.services.backups import good, listing, uploads
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database
from app.services.proofs import records as proofs
from app.services.recovery import reconcile
from app.services.restores.by_hand import restore_by_hand
from tests.conftest import Database, url_of
from tests.postgres.conftest import make_dump
from tests.services.restores.conftest import attempt, restored

pytestmark = pytest.mark.usefixtures("context")

BROUGHT = """
    CREATE SCHEMA crm;
    CREATE TABLE crm.people (id int PRIMARY KEY, name text);
    INSERT INTO crm.people SELECT n, 'person ' || n FROM generate_series(1, 30) n;
    CREATE FUNCTION crm.powerful() RETURNS text LANGUAGE sql SECURITY DEFINER
        AS 'SELECT current_user::text';
    CREATE EXTENSION hstore;
"""


@pytest.fixture
def elsewhere(new_database: Callable[..., Database]) -> Database:
    database = new_database()
    database.run(BROUGHT)
    return database


@pytest.fixture
def dump(elsewhere: Database, own_toolchain: Toolchain, tmp_path: Path) -> Path:
    make_dump(own_toolchain, parse_url(elsewhere.url), tmp_path / "theirs.dump")
    return tmp_path / "theirs.dump"


@pytest.fixture
def made(server: Conninfo) -> Iterator[Callable[[str], Database]]:
    """Databases that a restore makes; they and their owners are dropped afterwards."""
    names: list[str] = []

    def at(name: str) -> Database:
        names.append(name)
        return Database(name, url_of(server, name))

    yield at
    admin = Database("postgres", url_of(server, "postgres"))
    for name in names:
        admin.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        admin.run(f'DROP ROLE IF EXISTS "{name}_owner"')


def test_a_foreign_dump_is_taken_in_and_told_for_what_it_is(elsewhere: Database, dump: Path):
    before = dump.read_bytes()
    made = uploads.import_file(dump, notes="of a customer")
    assert made.is_completed, (made.error_message, made.error_detail)
    assert made.foreign
    assert (made.server, made.database) == ("elsewhere", elsewhere.name)
    assert made.notes == "of a customer\ntheirs.dump"
    with storage().open(made.filename) as file:
        assert file.read() == before == dump.read_bytes()
    (read,) = proofs.list_proofs(made.id)
    assert (read.level, read.result) == (Level.READ, Result.PASSED)
    assert made.contents is not None
    assert made.contents["tables"] == [{"schema": "crm", "name": "people", "rows": 30}]
    assert made.contents["foreign"]["functions"] == ["crm.powerful()"]
    assert made.contents["foreign"]["extensions"] == ["hstore"]
    assert good.find_newest_good(default_database()) is None  # it says nothing of our own database


def test_the_printed_commands_leave_out_the_owners_of_a_foreign_dump(dump: Path):
    by_hand = restore_by_hand(uploads.import_file(dump))
    assert by_hand is not None
    assert "--no-owner --no-privileges" in by_hand.commands[-1]
    assert "never restore it as a superuser" in by_hand.warning


def test_a_foreign_dump_is_restored_to_a_role_without_power(dump: Path, leftovers, made):
    filename = uploads.import_file(dump).filename
    restored(filename, Kind.DRILL)
    row = restored(filename, Kind.BESIDE, into="brought_here")
    new = made("brought_here")
    assert new.run("SELECT count(*) FROM crm.people") == [(30,)]
    owners = new.run(
        "SELECT DISTINCT rolname, rolsuper, rolcanlogin FROM pg_roles JOIN pg_proc"
        " ON proowner = pg_roles.oid AND proname = 'powerful'"
        " UNION SELECT rolname, rolsuper, rolcanlogin FROM pg_roles JOIN pg_database"
        " ON datdba = pg_roles.oid AND datname = current_database()"
    )
    assert owners == [("brought_here_owner", False, False)]
    assert new.run("SELECT crm.powerful()") == [("brought_here_owner",)]
    assert row.result["owner"] == "brought_here_owner"
    assert row.result["differences"] == []
    assert leftovers() == []


def test_a_foreign_dump_never_takes_the_place_of_the_living_database(dump: Path):
    filename = uploads.import_file(dump).filename
    with pytest.raises(Conflict, match="never replaces"):
        attempt(filename, Kind.REPLACE)


def test_what_only_a_superuser_may_create_is_not_loaded(
    elsewhere: Database, own_toolchain: Toolchain, tmp_path: Path, leftovers
):
    elsewhere.run("CREATE EXTENSION pg_buffercache")
    make_dump(own_toolchain, parse_url(elsewhere.url), tmp_path / "x.dump")
    row = attempt(uploads.import_file(tmp_path / "x.dump").filename, Kind.BESIDE, into="never")
    assert "pg_buffercache" in row.error_message
    assert leftovers() == []


def test_event_triggers_and_grants_of_a_foreign_dump_are_left_out(
    elsewhere: Database, own_toolchain: Toolchain, tmp_path: Path, made
):
    elsewhere.run("""
        CREATE FUNCTION public.see() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE EVENT TRIGGER watch ON ddl_command_start EXECUTE FUNCTION public.see();
        GRANT SELECT ON crm.people TO PUBLIC;
    """)
    make_dump(own_toolchain, parse_url(elsewhere.url), tmp_path / "x.dump")
    elsewhere.run("DROP EVENT TRIGGER watch")
    made_of = uploads.import_file(tmp_path / "x.dump")
    assert made_of.contents is not None
    assert made_of.contents["foreign"]["eventTriggers"] == ["watch"]
    row = restored(made_of.filename, Kind.BESIDE, into="without_power")
    new = made("without_power")
    assert "EVENT TRIGGER watch" in row.result["leftOut"]
    assert new.run("SELECT count(*) FROM pg_event_trigger") == [(0,)]
    assert new.run("SELECT relacl FROM pg_class WHERE relname = 'people'") == [(None,)]


def test_what_is_no_dump_leaves_nothing(tmp_path: Path):
    for content in (b"", b"PGDM", b"PGDMP", b"-- PostgreSQL database dump\n" * 10):
        (tmp_path / "x.sql").write_bytes(content)
        with pytest.raises(InvalidInput):
            uploads.import_file(tmp_path / "x.sql")
    with pytest.raises(InvalidInput, match="cannot be read"):
        uploads.import_file(tmp_path / "not there")
    assert list(storage().folder.glob(".partial/*")) == []
    assert listing.list_backups().backups == []


def test_a_damaged_dump_fails_and_leaves_no_file(dump: Path):
    raw = dump.read_bytes()
    dump.write_bytes(raw[: len(raw) // 2])
    made = uploads.import_file(dump)
    assert "cannot be read back" in made.error_message or "not an archive" in made.error_message
    assert storage().sizes() == {}
    assert list(storage().folder.glob(".partial/*")) == []


def test_parts_go_on_where_the_last_one_ended(dump: Path):
    raw = dump.read_bytes()
    upload = uploads.begin_upload("x.dump", len(raw), notes="", created_by="ann")
    half = len(raw) // 2
    assert uploads.take_part(upload.id, 0, [raw[:half]]) == half
    with pytest.raises(Conflict, match=f"goes on at byte {half}"):
        uploads.take_part(upload.id, 0, [raw[:half]])

    def breaking() -> Iterator[bytes]:
        yield raw[half : half + 100]
        raise ConnectionResetError

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the reader raises
        uploads.take_part(upload.id, half, breaking())
    assert uploads.get_upload(upload.id)[1] == half
    with pytest.raises(InvalidInput, match="longer than its announced size"):
        uploads.take_part(upload.id, half, [raw[half:], b"x"])
    assert uploads.get_upload(upload.id)[1] == half
    assert uploads.take_part(upload.id, half, [raw[half:]]) == len(raw)


def test_an_upload_that_stops_is_forgotten_after_a_day(dump: Path):
    upload = uploads.begin_upload("x.dump", 1000, notes="", created_by="ann")
    uploads.take_part(upload.id, 0, [dump.read_bytes()[:500]])
    reconcile()
    assert uploads.get_upload(upload.id)[1] == 500
    old = time.time() - 25 * 3600
    os.utime(storage().uploads.path_of(upload.id), (old, old))
    reconcile()
    with pytest.raises(NotFound):
        uploads.get_upload(upload.id)
