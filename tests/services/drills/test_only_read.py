"""A role that may only read is enough: a drill makes nothing on the server that is backed up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from app.models import Kind, Level, Result
from tests.conftest import SMALL_SHOP, Database, url_of
from tests.servers import a_server, programs
from tests.services.drills.conftest import newest_proof
from tests.services.restores.conftest import backed_up, restored

_MORE = """
    CREATE EXTENSION pg_trgm;
    CREATE EXTENSION pg_buffercache;
    CREATE ROLE reader;
    CREATE ROLE "O'Neil, ""the"" boss";
    ALTER TABLE customers OWNER TO "O'Neil, ""the"" boss";
    CREATE VIEW seen AS SELECT * FROM orders;
    GRANT SELECT ON seen TO reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE "O'Neil, ""the"" boss" GRANT SELECT ON TABLES TO reader;
    CREATE POLICY own ON customers FOR SELECT TO reader USING (true);
    CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM orders;
    CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'nothing is changed here'; END $$;
    CREATE PUBLICATION everything FOR ALL TABLES;
    CREATE FOREIGN DATA WRAPPER nowhere;
    CREATE EVENT TRIGGER refuses ON ddl_command_start EXECUTE FUNCTION refuse();
"""
# What would change a server; that of a backup's own transaction is none of it.
_WRITES = ("CREATE ", "ALTER ", "DROP ", "INSERT ", "UPDATE ", "DELETE ", "GRANT ", "TRUNCATE ")


@dataclass(frozen=True)
class Guarded:
    """A server whose log tells every statement, and a role there that may only read."""

    url: str
    log: Path
    major: int

    def statements(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if "statement: " in line]


@pytest.fixture(params=[15, 17, 18])
def guarded(request: pytest.FixtureRequest, passable_dir: Path) -> Iterator[Guarded]:
    home = passable_dir / f"guarded-{request.param}"
    with a_server(request.param, home) as info:
        admin = Database("postgres", url_of(info, "postgres"))
        admin.run("CREATE ROLE backs_up LOGIN PASSWORD 'known' IN ROLE pg_read_all_data")
        admin.run("CREATE DATABASE shop")
        Database("shop", url_of(info, "shop")).run(SMALL_SHOP + _MORE)
        for setting in ("log_statement = 'all'", "log_connections = 'on'"):
            admin.run(f"ALTER SYSTEM SET {setting}")
        admin.run("SELECT pg_reload_conf()")
        yield Guarded(url_of(info, "shop", "backs_up", "known"), home / "log", request.param)


@pytest.mark.usefixtures("isolated")
def test_a_role_that_may_only_read_backs_up_and_drills(
    guarded: Guarded, make_app: Callable[..., Flask], left_of_drills
):
    settings = {"database_url": guarded.url, "drill_amcheck": True}
    if guarded.major == 18:
        settings["pg_bin_dir"] = programs(18)
    with make_app(**settings).app_context():
        filename = backed_up()
        before = guarded.log.read_text()
        row = restored(filename, Kind.DRILL)
        assert guarded.log.read_text() == before  # not even a connection
        assert (row.result["differences"], row.result["rows"]) == ([], 550)
        assert row.result["amcheck"] == "nothing found"
        assert row.result["server"].startswith(f"PostgreSQL {guarded.major}.")
        proof = newest_proof(filename)
        assert (proof.level, proof.result) == (Level.ASSERTED, Result.PASSED)
        assert left_of_drills() == []
    told = guarded.statements()
    assert [line for line in told if any(f"statement: {word}" in line for word in _WRITES)] == []
    assert [line for line in told if "backstop_" in line] == []
