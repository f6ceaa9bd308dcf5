"""What extensions grant in their scripts comes back, and so does each later backup of it.

Before 17, a server keeps in pg_init_privs the numbers of roles that are dropped: a later
dump would name them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from app.models import Kind
from app.postgres.conninfo import Conninfo
from tests.conftest import Database, url_of
from tests.servers import a_server, debian_15_with, programs, toolchain
from tests.services.restores.comparison import seen
from tests.services.restores.conftest import backed_up, restored

#: Who may create it, and with whose rights its script runs.
_CONTROLS = {
    "ofsuperusers": "superuser = true",
    "trusted": "superuser = true\ntrusted = true",
    "ofanybody": "superuser = false",
}
_SCRIPT = """
    CREATE TABLE {name}_kept (n int PRIMARY KEY, told text);
    SELECT pg_extension_config_dump('{name}_kept', '');
    CREATE SEQUENCE {name}_counts;
    CREATE FUNCTION {name}_secret() RETURNS int LANGUAGE sql AS 'SELECT 1';
    REVOKE ALL ON FUNCTION {name}_secret() FROM PUBLIC;
    GRANT SELECT ON {name}_kept TO PUBLIC;
    GRANT UPDATE (told) ON {name}_kept TO PUBLIC;
    REVOKE ALL ON {name}_counts FROM CURRENT_USER;
    CREATE SCHEMA {name}_own;
    GRANT USAGE ON SCHEMA {name}_own TO PUBLIC;
    CREATE TABLE {name}_own.more (n int);
    GRANT SELECT ON ALL TABLES IN SCHEMA {name}_own TO PUBLIC;
    ALTER DEFAULT PRIVILEGES IN SCHEMA {name}_own GRANT SELECT ON TABLES TO PUBLIC;
"""
_FILES = {
    f"{name}.control": f"default_version = '1'\nrelocatable = false\n{control}\n"
    for name, control in _CONTROLS.items()
} | {f"{name}--1.sql": _SCRIPT.replace("{name}", name) for name in _CONTROLS}


@pytest.fixture(params=[15, 18])
def granting(request: pytest.FixtureRequest, passable_dir: Path) -> Iterator[tuple[int, Conninfo]]:
    """A server on which these extensions can be created."""
    home = passable_dir / f"granting-{request.param}"
    home.mkdir()
    if request.param == 15:
        folder = debian_15_with(_FILES, home)
        with a_server(15, home / "server", folder=folder) as info:
            yield 15, info
        return
    (home / "extension").mkdir()
    for name, text in _FILES.items():
        (home / "extension" / name).write_text(text)
    home.chmod(0o755)
    with a_server(18, home / "server", f"extension_control_path = '$system:{home}'") as info:
        yield 18, info


def test_extensions_that_grant_come_back_and_so_do_later_backups(
    granting: tuple[int, Conninfo], make_app: Callable[..., Flask]
):
    major, info = granting
    admin, database = (Database(each, url_of(info, each)) for each in ("postgres", "grants"))
    admin.run("CREATE ROLE app")
    admin.run("CREATE DATABASE grants OWNER app")
    for name in _CONTROLS:
        creator = "backstop" if name == "ofsuperusers" else "app"
        database.run(f"""
            SET ROLE {creator}; CREATE EXTENSION {name}; RESET ROLE;
            INSERT INTO {name}_kept VALUES (1, 'by a user');
            REVOKE SELECT ON {name}_kept FROM PUBLIC;
            GRANT INSERT ON {name}_kept TO pg_monitor;
            GRANT EXECUTE ON FUNCTION {name}_secret() TO pg_monitor;
            GRANT CREATE ON SCHEMA {name}_own TO pg_monitor;
            CREATE TABLE {name}_own.later (n int);
            CREATE FUNCTION {name}_own.later() RETURNS int LANGUAGE sql AS 'SELECT 1';
            ALTER FUNCTION {name}_own.later() OWNER TO app;
        """)
    tools = toolchain(major)
    before = seen(tools, database)
    with make_app(
        database_url=database.url, drill_url=admin.url, pg_bin_dir=programs(major)
    ).app_context():
        filename = backed_up()
        beside = restored(filename, Kind.BESIDE)
        assert beside.result["differences"] == []
        assert seen(tools, Database(beside.database, url_of(info, beside.database))) == before
        assert restored(filename, Kind.REPLACE).result["differences"] == []
        assert seen(tools, database) == before
        assert restored(backed_up(), Kind.DRILL).result["differences"] == []
