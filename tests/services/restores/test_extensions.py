"""An extension that only a superuser can create comes back with the rows that users gave it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from app.models import Kind
from app.postgres.conninfo import Conninfo
from tests.conftest import Database, url_of
from tests.servers import programs, toolchain
from tests.services.restores.comparison import seen
from tests.services.restores.conftest import attempt, backed_up, restored

_CONTROL = "comment = 'keeps what users add'\ndefault_version = '1.0'\nrelocatable = true\n"
_SCRIPT = """
    CREATE TABLE known (n int PRIMARY KEY, own boolean NOT NULL DEFAULT true);
    INSERT INTO known VALUES (1, false), (2, false);
    CREATE SEQUENCE told;
    SELECT pg_extension_config_dump('known', 'WHERE own');
    SELECT pg_extension_config_dump('told', '');
"""


@pytest.fixture
def with_keeper(server_18: Conninfo, passable_dir: Path) -> Iterator[Database]:
    """A database with such an extension; from 18 on a server takes them from other folders."""
    folder = passable_dir / "extension"
    folder.mkdir(mode=0o755)
    (folder / "keeper.control").write_text(_CONTROL)
    (folder / "keeper--1.0.sql").write_text(_SCRIPT)
    for path in folder.iterdir():
        path.chmod(0o644)
    admin = Database("postgres", url_of(server_18, "postgres"))
    admin.run(f"ALTER SYSTEM SET extension_control_path = '$system:{passable_dir}'")
    admin.run("SELECT pg_reload_conf()")
    admin.run("CREATE DATABASE kept_of")
    database = Database("kept_of", url_of(server_18, "kept_of"))
    database.run("CREATE EXTENSION keeper; INSERT INTO known SELECT generate_series(3, 9)")
    database.run("SELECT setval('told', 42)")
    yield database
    for (name,) in admin.run("SELECT datname FROM pg_database WHERE datname LIKE 'kept\\_of%'"):
        admin.run(f'DROP DATABASE "{name}" WITH (FORCE)')
    admin.run("ALTER SYSTEM RESET extension_control_path")
    admin.run("SELECT pg_reload_conf()")
    shutil.rmtree(folder)


def test_rows_of_an_extension_come_back(with_keeper: Database, make_app: Callable[..., Flask]):
    with make_app(database_url=with_keeper.url, pg_bin_dir=programs(18)).app_context():
        filename = backed_up()
        with_keeper.run("DELETE FROM known WHERE n > 5")
        row = restored(filename, Kind.REPLACE)
        assert row.result["differences"] == []
        assert "EXTENSION keeper" in row.result["privileged"]
    assert with_keeper.run("SELECT count(*) FROM known") == [(9,)]
    assert with_keeper.run("SELECT last_value FROM told") == [(42,)]


def test_a_table_that_inherits_from_one_of_an_extension_is_named_before(
    with_keeper: Database, make_app: Callable[..., Flask], server_18: Conninfo
):
    """Who makes it must own the other, and nobody is lent that."""
    with_keeper.run('CREATE TABLE "my own" (more text) INHERITS (known)')
    with_keeper.run('CREATE TABLE of_mine () INHERITS ("my own")')
    with make_app(database_url=with_keeper.url, pg_bin_dir=programs(18)).app_context():
        filename = backed_up()
        row = attempt(filename, Kind.REPLACE)
        assert row.error_message == "the backup holds objects that only a superuser can create"
        assert row.error_detail == "TABLE my own."
        assert row.safety_backup is None
        beside = restored(filename, Kind.BESIDE, as_superuser=True)
        assert beside.result["differences"] == []
        copy = Database(beside.database, url_of(server_18, beside.database))
        assert seen(toolchain(18), copy) == seen(toolchain(18), with_keeper)
