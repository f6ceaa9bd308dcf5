"""What an admin who is no superuser can restore, and what is told of the rest."""

import secrets
from collections.abc import Callable

import pytest
from flask import Flask

from app.models import Kind, Level, Result
from app.postgres.conninfo import Conninfo
from app.services import backups, proofs
from tests.conftest import Database, url_of
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
