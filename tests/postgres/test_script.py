"""SQL that people wrote runs as a role without rights, and gains none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import Interrupted, PostgresError
from app.postgres import script as scripts
from app.postgres.conninfo import Conninfo
from app.postgres.script import run_script, statements_of
from tests.conftest import Database
from tests.postgres.conftest import Role, as_admin, at, signed_in_as

SCRIPTS = {
    "": [],
    " ;; \n-- nothing; here\n/* nor; here */ ;": [],
    "SELECT 1": [(1, "SELECT 1")],
    "SELECT 1;\n\n  SELECT 2;\nSELECT 3": [(1, "SELECT 1"), (3, "SELECT 2"), (4, "SELECT 3")],
    "SELECT ';', 'it''s;'; SELECT 2": [(1, "SELECT ';', 'it''s;'"), (1, "SELECT 2")],
    "SELECT E'\\';'; SELECT '\\'; SELECT 3": [
        (1, "SELECT E'\\';'"),
        (1, "SELECT '\\'"),
        (1, "SELECT 3"),
    ],
    'UPDATE "a;""b" SET x = 1; SELECT 2': [(1, 'UPDATE "a;""b" SET x = 1'), (1, "SELECT 2")],
    "DO $$ BEGIN x; END $$; SELECT $a$ $$;$b$ $a$": [
        (1, "DO $$ BEGIN x; END $$"),
        (1, "SELECT $a$ $$;$b$ $a$"),
    ],
    "SELECT a$b; SELECT $1; SELECT 3": [(1, "SELECT a$b"), (1, "SELECT $1"), (1, "SELECT 3")],
    "SELECT 1 -- it's;\n, 2; /* ' ; */ SELECT 3": [
        (1, "SELECT 1 -- it's;\n, 2"),
        (2, "/* ' ; */ SELECT 3"),
    ],
    "SELECT 'never ended; SELECT 2": [(1, "SELECT 'never ended; SELECT 2")],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_split_where_statements_end(script: str):
    found = statements_of(script)
    assert [(statement.line, statement.text) for statement in found] == SCRIPTS[script]
    assert [statement.number for statement in found] == list(range(1, len(found) + 1))


@pytest.fixture
def owned(
    new_role: Callable[..., Role], shop: Database, server: Conninfo
) -> tuple[Conninfo, Database]:
    """A database of a role without rights: how that signs in, and the admin."""
    role, admin = new_role(), as_admin(server, shop.name)
    admin.run(f"ALTER DATABASE {shop.name} OWNER TO {role.name}")
    for table in ("customers", "orders"):
        admin.run(f"ALTER TABLE {table} OWNER TO {role.name}")
    return signed_in_as(role, at(server, shop.name)), admin


def run(info: Conninfo, script: str, **more: object) -> int:
    known = {"major": 17, "timeout": 60.0, "application_name": "t", "on_wait": None}
    return run_script(info, script, **known | more)


def test_a_script_is_one_transaction_and_tells_how_many_ran(owned):
    info, admin = owned
    assert run(info, "UPDATE customers SET name = '100 %s;'; DELETE FROM orders;") == 2
    assert admin.run("SELECT DISTINCT name FROM customers") == [("100 %s;",)]
    with pytest.raises(PostgresError):
        run(info, "DELETE FROM customers; SELECT 1 / 0")
    assert admin.run("SELECT count(*) FROM customers") == [(50,)]


_NOT_HERE = "active sql transaction (25001)."
_REFUSED = "feature not supported (0A000)."
_RIGHTS = "insufficient privilege (42501): "

#: What it may try, and what is told: where, and no value of a row or of the script.
ATTEMPTS = {
    "SELECT 'top secret": "syntax error (42601).",
    "SELECT nothing": 'undefined column (42703): column "nothing" does not exist.',
    "DELETE FROM customers": "foreign key violation (23503), table orders, constraint ",
    "UPDATE customers SET id = name::int": "invalid text representation (22P02).",
    "DO $$ BEGIN ASSERT false, 'names are left'; END $$": "assert failure (P0004): names are left.",
    "DO $$ BEGIN RAISE 'x' USING ERRCODE = 'XY123'; END $$": "XY123.",
    "DROP DATABASE {other}": _NOT_HERE,
    "VACUUM FULL": _NOT_HERE,
    "CREATE DATABASE mine": _NOT_HERE,
    "ALTER DATABASE {other} CONNECTION LIMIT 0": _RIGHTS,
    "ALTER ROLE CURRENT_USER SUPERUSER": _RIGHTS,
    "ALTER SYSTEM SET work_mem = '1GB'": _NOT_HERE,
    "COPY (SELECT 1) TO PROGRAM 'touch {folder}/made'": _RIGHTS,
    "COPY customers TO '{folder}/made'": _RIGHTS,
    "COPY customers TO STDOUT": _REFUSED,
    "COPY customers FROM STDIN": _REFUSED,
    "SET ROLE {admin}": _RIGHTS,
    "SET SESSION AUTHORIZATION {admin}": _RIGHTS,
    "RESET SESSION AUTHORIZATION; RESET ROLE; CREATE ROLE mallory": _RIGHTS,
    "COMMIT; CREATE ROLE mallory": _REFUSED,
    "COMMIT AND CHAIN": _REFUSED,
    "ROLLBACK": _REFUSED,
    "SAVEPOINT s": _REFUSED,
    "PREPARE TRANSACTION 'x'": _REFUSED,
    "DO $$ BEGIN COMMIT; END $$": "invalid transaction termination (2D000).",
}


@pytest.mark.usefixtures("standing")
def test_a_script_gains_no_rights(owned, server: Conninfo, tmp_path: Path):
    info, admin = owned
    tmp_path.chmod(0o777)
    values = {"other": "standing", "admin": server.parameters["user"], "folder": str(tmp_path)}
    for attempt, words in ATTEMPTS.items():
        script = attempt
        for name, value in values.items():
            script = script.replace(f"{{{name}}}", value)
        with pytest.raises(PostgresError) as refused:
            run(info, script)
        assert refused.value.message.startswith("the SQL after the restore failed at statement ")
        assert words in refused.value.detail, attempt
        assert "secret" not in refused.value.in_words()
        assert "customer 1" not in refused.value.in_words()
    assert list(tmp_path.iterdir()) == []
    assert admin.run("SELECT FROM pg_roles WHERE rolname = 'mallory'") == []
    assert admin.run("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]


_STUBBORN = """
    DO $$ BEGIN
        PERFORM set_config('statement_timeout', '0', false); PERFORM pg_sleep(60);
    END $$
"""
_DEAF = """
    DO $$ BEGIN
        LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END; END LOOP;
    END $$
"""


@pytest.mark.parametrize("sleeping", ["SELECT pg_sleep(60)", _STUBBORN, _DEAF])
def test_a_script_that_sleeps_is_given_up(owned, sleeping: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scripts, "_GRACE", 0.1)
    with pytest.raises(PostgresError, match=r"took longer than 0.3 s, at statement 2, line 2"):
        run(owned[0], f"SELECT 1;\n{sleeping.strip()}", timeout=0.3)


def test_a_script_can_be_ended_meanwhile(owned):
    def cancel() -> None:
        raise Interrupted("cancelled by bob")

    with pytest.raises(Interrupted):
        run(owned[0], "SELECT pg_sleep(60)", on_wait=cancel)


def test_rows_that_a_policy_hides_are_an_error_rather_than_left(owned):
    info, admin = owned
    admin.run("ALTER TABLE customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    with pytest.raises(PostgresError) as refused:
        run(info, "UPDATE customers SET name = 'nobody'")
    assert "row-level security" in refused.value.detail
