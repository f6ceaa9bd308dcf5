"""What an admin who is no superuser can restore, and what is told of the rest."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from flask import Flask

from app.errors import NotPossible
from app.models import Kind, Level, Result
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from app.services.restores import service as restores
from app.services.restores.source import get_source
from tests.conftest import SMALL_SHOP, Database, url_of
from tests.services.restores.conftest import attempt, backed_up, restored

HIDDEN = """
    CREATE TABLE hidden (id int PRIMARY KEY);
    INSERT INTO hidden SELECT generate_series(1, 9);
    ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
    ALTER TABLE hidden FORCE ROW LEVEL SECURITY;
    CREATE POLICY few ON hidden USING (id > 7);
"""
_FORCED = "SELECT relforcerowsecurity FROM pg_class WHERE relname = 'hidden'"


def proven(filename: str) -> list[tuple[int, Result]]:
    """Level and result of each proof, the newest first."""
    found = proofs.list_proofs(backups.get_backup(filename).id)
    return [(each.level, each.result) for each in found]


@pytest.mark.usefixtures("context")
def test_rows_that_a_policy_hides_from_their_owner_are_not_missed(
    living: Database, server: Conninfo, make_app: Callable[..., Flask]
):
    living.run(HIDDEN)
    filename = backed_up()
    role = f"restores_{secrets.token_hex(4)}"
    living.run(f"CREATE ROLE {role} LOGIN PASSWORD 'known'")
    try:
        with make_app(restore_url=url_of(server, "postgres", role, "known")).app_context():
            row = restored(filename, Kind.BESIDE)
            assert (row.result["differences"], row.result["rows"]) == ([], 559)
            copy = Database(row.database, url_of(server, row.database))
            assert copy.run(_FORCED) == [(True,)]
            living.run("CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM hidden")
            filename = backed_up()
            row = attempt(filename, Kind.DRILL)
            assert proven(filename)[0] == (Level.RESTORED, Result.NOT_POSSIBLE)
    finally:
        living.run(f'DROP DATABASE IF EXISTS "{row.database}" WITH (FORCE)')
        living.run(f"DROP ROLE {role}")


@dataclass(frozen=True)
class Low:
    """A database and its owner, who may create databases and roles and nothing else."""

    own: Database
    admin: Database  # the same, as a superuser
    server: Database

    def spare_role(self, how: str) -> str:
        role = f"{self.own.name}_spare"
        self.server.run(f"CREATE ROLE {role} {how}")
        return role


@pytest.fixture(params=["server", "server_15"])
def low(request: pytest.FixtureRequest) -> Iterator[Low]:
    info: Conninfo = request.getfixturevalue(request.param)
    server = Database("postgres", url_of(info, "postgres"))
    name = f"low_{secrets.token_hex(4)}"
    server.run(f"CREATE ROLE {name} LOGIN CREATEDB CREATEROLE PASSWORD 'known'")
    server.run(f"CREATE DATABASE {name} OWNER {name}")
    own = Database(name, url_of(info, name, name, "known"))
    own.run(SMALL_SHOP)
    yield Low(own, Database(name, url_of(info, name)), server)
    for (database,) in server.run(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", name
    ):
        server.run(f'DROP DATABASE "{database}" WITH (FORCE)')
    for (role,) in server.run("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", name):
        server.run(f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}")
        server.run(f"DROP ROLE {role}")


_LEFT = """
    SELECT datname::text FROM pg_database WHERE starts_with(datname, 'backstop_')
    UNION ALL SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'backstop_')
"""


def test_an_admin_who_is_no_superuser_restores_what_is_his(
    low: Low, make_app: Callable[..., Flask]
):
    """Also what belongs to a role of which he is a member, and a publication of his tables."""
    role = low.spare_role("")
    low.server.run(f"GRANT {role} TO {low.own.name}")
    low.own.run(f"CREATE SCHEMA theirs AUTHORIZATION {role}; GRANT SELECT ON orders TO {role}")
    low.own.run("CREATE PUBLICATION told FOR TABLE orders")
    before = low.own.run("SELECT md5(string_agg(t::text, '|' ORDER BY t)) FROM orders t")
    with make_app(database_url=low.own.url, drill_url=low.own.url).app_context():
        filename = backed_up()
        assert restored(filename, Kind.DRILL).result["differences"] == []
        beside = restored(filename, Kind.BESIDE, into=f"{low.own.name}_beside")
        assert beside.result["differences"] == []
        low.own.run("DELETE FROM orders")
        row = restored(filename, Kind.REPLACE)
        assert (
            low.own.run("SELECT md5(string_agg(t::text, '|' ORDER BY t)) FROM orders t") == before
        )
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        assert low.own.run(owner) == [(low.own.name,)]
        restores.undo_restore(row.id, by="ann")
        assert low.own.run("SELECT count(*) FROM orders") == [(0,)]
        restores.drop_kept(row.id, by="ann")
    assert low.server.run(_LEFT) == []


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("CREATE PUBLICATION every FOR ALL TABLES", "PUBLICATION every"),
        ("CREATE EXTENSION pg_buffercache", "EXTENSION pg_buffercache"),
        ("ALTER TABLE customers OWNER TO {role}", "may not give objects to role {role}"),
        ("ALTER ROLE {role} IN DATABASE {database} SET work_mem = '9MB'", "refused a step"),
    ],
)
def test_what_he_may_not_is_not_possible_and_told_before(
    trouble: str, told: str, low: Low, make_app: Callable[..., Flask]
):
    names = {"role": low.spare_role("SUPERUSER"), "database": low.own.name}
    low.admin.run(trouble.format(**names))
    low.admin.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {low.own.name}")
    with make_app(database_url=low.own.url, drill_url=low.own.url).app_context():
        filename = backed_up()
        row = attempt(filename, Kind.DRILL)
        assert told.format(**names) in f"{row.error_message} {row.error_detail}"
        assert proven(filename)[0] == (Level.RESTORED, Result.NOT_POSSIBLE)
        if told != "refused a step":
            assert "loading" not in row.log
            with pytest.raises(NotPossible):
                restores.preview_restore(get_source(filename), Kind.BESIDE)
    assert low.server.run(_LEFT) == []
