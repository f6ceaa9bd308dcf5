"""A role that the SQL makes dumps everything and can do nothing else: real servers, real dumps."""

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2
import pytest

from app.errors import ConnectError
from app.postgres.connection import quoted
from app.postgres.connection_check import RIGHTS, SIGN_IN, check_connection
from app.postgres.conninfo import Conninfo
from app.postgres.least_privilege import least_privilege_sql
from tests.conftest import Database, url_of
from tests.postgres.conftest import at, encrypted_server, make_dump
from tests.servers import programs, toolchain

PASSWORD = "only for tests"

#: A database of an application, as awkward as they are.
APPLICATION = """
    SET ROLE {owner};
    CREATE SCHEMA "Crm";
    CREATE SCHEMA "we""ird\n; DROP TABLE public.orders; --";
    CREATE TABLE public.orders (id serial PRIMARY KEY, note text);
    CREATE TABLE "Crm"."Customers" (id bigint GENERATED ALWAYS AS IDENTITY, name text);
    CREATE TABLE "Crm".parts (id int) PARTITION BY RANGE (id);
    CREATE TABLE "Crm".parts_1 PARTITION OF "Crm".parts FOR VALUES FROM (1) TO (9);
    CREATE TABLE "we""ird\n; DROP TABLE public.orders; --".inside (id int);
    CREATE SEQUENCE "Crm".numbers START 4711;
    CREATE MATERIALIZED VIEW "Crm".seen AS SELECT 1 AS one;
    INSERT INTO public.orders (note) VALUES ('a plain row');
    INSERT INTO "Crm"."Customers" (name) VALUES ('a customer');
    SELECT lo_from_bytea(4711, 'a picture')
"""
POLICIES = """
    SET ROLE {owner};
    CREATE TABLE public.hidden (note text);
    INSERT INTO public.hidden VALUES ('a hidden row');
    ALTER TABLE public.hidden ENABLE ROW LEVEL SECURITY;
    ALTER TABLE public.hidden FORCE ROW LEVEL SECURITY;
    CREATE POLICY none ON public.hidden USING (false)
"""
LATER = """
    SET ROLE {owner};
    CREATE SCHEMA later;
    CREATE TABLE later.things (id serial, note text);
    INSERT INTO later.things (note) VALUES ('a later row')
"""

FORBIDDEN = (
    "INSERT INTO public.orders (note) VALUES ('x')",
    "UPDATE public.orders SET note = 'x'",
    "DELETE FROM public.orders",
    "TRUNCATE public.orders",
    "DROP TABLE public.orders",
    "ALTER TABLE public.orders ADD COLUMN x int",
    "ALTER TABLE public.hidden DISABLE ROW LEVEL SECURITY",
    "BEGIN; LOCK TABLE public.orders IN EXCLUSIVE MODE",
    "SELECT nextval('\"Crm\".numbers')",
    "SELECT setval('\"Crm\".numbers', 1)",
    "SELECT lo_put(4711, 0, 'x')",
    "SELECT lo_unlink(4711)",
    'REFRESH MATERIALIZED VIEW "Crm".seen',
    "CREATE TABLE public.mine (id int)",
    'CREATE TABLE "Crm".mine (id int)',
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE EXTENSION hstore",
    "CREATE DATABASE mine",
    "CREATE ROLE mine",
    "SET ROLE {owner}",
    "GRANT {owner} TO CURRENT_USER",
    "ALTER DATABASE {database} SET work_mem = '8MB'",
    "ALTER SYSTEM SET work_mem = '8MB'",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'backstop'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "COPY public.orders TO '/tmp/never-written'",
    "COPY public.orders TO PROGRAM 'true'",
    "SELECT lo_export(4711, '/tmp/never-written')",
)


@dataclass(frozen=True)
class Guarded:
    """A database of an application, on a server of some version."""

    info: Conninfo
    name: str
    major: int

    @property
    def role(self) -> str:
        return f'{self.name} "re$$ader"\n'

    def run(self, statements: str) -> list[tuple[object, ...]]:
        """As a superuser."""
        text = statements.replace("{owner}", f"{self.name}_app")
        return Database(self.name, url_of(self.info, self.name)).run(text)

    def grant(self, **options: bool) -> str:
        """Run the SQL, and set the password that it leaves out."""
        sql = least_privilege_sql(self.info, self.role, **options)
        self.run(sql)
        self.run(f"ALTER ROLE {quoted(self.role)} PASSWORD '{PASSWORD}'")
        return sql

    @property
    def as_role(self) -> Conninfo:
        signs_in = {**self.info.parameters, "user": self.role}
        return replace(self.info, parameters=signs_in, password=PASSWORD)

    def dumped(self, folder: Path) -> str:
        """What a dump by the role holds, as SQL."""
        target = folder / f"{secrets.token_hex(3)}.dump"
        chain = toolchain(self.major)
        make_dump(chain, self.as_role, target)
        command = [chain.pg_restore, "-f", "-", target]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode()

    def is_refused(self, statement: str, database: str = "") -> bool:
        """Whether the role lacks the right to do this."""
        info = at(self.as_role, database or self.name)
        text = statement.replace("{owner}", f"{self.name}_app").replace("{database}", self.name)
        with closing(psycopg2.connect(info.dsn(), password=PASSWORD)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor, suppress(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(text)
                return False
        return True


@pytest.fixture(params=[15, 17, 18])
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    fixture = {15: "server_15", 17: "server", 18: "server_18"}[request.param]
    info = request.getfixturevalue(fixture)
    name = f"rights_{secrets.token_hex(3)}"
    admin = Database("postgres", url_of(info, "postgres"))
    admin.run(f"CREATE ROLE {name}_app")
    admin.run(f"CREATE DATABASE {name} OWNER {name}_app")
    made = Guarded(at(info, name), name, request.param)
    made.run(APPLICATION)
    yield made
    admin.run(f"DROP DATABASE {name} WITH (FORCE)")
    for (role,) in admin.run("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", name):
        admin.run(f"DROP OWNED BY {quoted(role)}; DROP ROLE {quoted(role)}")


@pytest.mark.parametrize("per_schema", [False, True])
def test_the_role_dumps_everything(guarded: Guarded, tmp_path: Path, per_schema: bool):
    guarded.run(POLICIES)
    guarded.grant(per_schema=per_schema)
    dumped = guarded.dumped(tmp_path)
    for row in ("a plain row", "a customer", "a hidden row", b"a picture".hex(), "4711, false"):
        assert row in dumped
    rights = {step.name: step for step in steps(guarded)}[RIGHTS]
    assert rights.passed, rights


@pytest.mark.parametrize("per_schema", [False, True])
def test_the_role_dumps_what_comes_later_too(guarded: Guarded, tmp_path: Path, per_schema: bool):
    guarded.grant(per_schema=per_schema)
    guarded.run(LATER)
    if guarded.major >= 18:
        guarded.run("SET ROLE {owner}; SELECT lo_from_bytea(4712, 'another')")
    dumped = guarded.dumped(tmp_path)
    assert "a later row" in dumped
    assert (b"another".hex() in dumped) == (guarded.major >= 18)


@pytest.mark.parametrize("per_schema", [False, True])
def test_the_role_can_change_create_and_reach_nothing(guarded: Guarded, per_schema: bool):
    guarded.run(POLICIES)
    guarded.grant(per_schema=per_schema)
    allowed = [statement for statement in FORBIDDEN if not guarded.is_refused(statement)]
    assert allowed == []
    assert guarded.run('SELECT last_value, is_called FROM "Crm".numbers') == [(4711, False)]


def test_the_role_reads_neither_hashes_nor_other_databases_by_schema(guarded: Guarded):
    guarded.grant(per_schema=True)
    other = Database("postgres", url_of(guarded.info, "postgres"))
    other.run("CREATE TABLE elsewhere (id int)")
    try:
        assert guarded.is_refused("TABLE elsewhere", "postgres")
    finally:
        other.run("DROP TABLE elsewhere")
    assert guarded.is_refused("SELECT rolpassword FROM pg_authid")
    assert guarded.is_refused("SELECT data FROM pg_largeobject")


def test_the_sql_may_be_run_again(guarded: Guarded, tmp_path: Path):
    assert "CREATE ROLE" in guarded.grant()
    guarded.run("SELECT lo_from_bytea(4713, 'new')")
    again = guarded.grant()
    assert "CREATE ROLE" not in again
    assert "exists already" in again
    assert b"new".hex() in guarded.dumped(tmp_path)


def test_nothing_more_is_granted_than_the_contents_need(guarded: Guarded):
    sql = least_privilege_sql(guarded.info, "reader")
    assert "BYPASSRLS" not in sql
    assert "PASSWORD '" not in sql
    assert '\\password "reader"' in sql
    guarded.run("SELECT lo_unlink(4711)")
    assert "LARGE OBJECT" not in least_privilege_sql(guarded.info, "reader")
    guarded.run(POLICIES)
    assert 'ALTER ROLE "reader" BYPASSRLS;' in least_privilege_sql(guarded.info, "reader")


def test_names_begin_no_statement(guarded: Guarded):
    role = f'{guarded.name}"\nDROP TABLE public.orders; --'
    guarded.run(least_privilege_sql(guarded.info, role))
    assert guarded.run("SELECT count(*) FROM public.orders") == [(1,)]
    assert (role,) in guarded.run("SELECT rolname FROM pg_roles")


def test_a_schema_in_which_everybody_may_create_is_named(guarded: Guarded):
    assert "REVOKE" not in least_privilege_sql(guarded.info, "reader")
    guarded.run("GRANT CREATE ON SCHEMA public TO PUBLIC")
    sql = least_privilege_sql(guarded.info, "reader")
    assert '-- REVOKE CREATE ON SCHEMA "public" FROM PUBLIC;' in sql


def test_whoever_has_few_rights_may_ask_too(guarded: Guarded):
    guarded.grant()
    assert least_privilege_sql(guarded.as_role, "x") == least_privilege_sql(guarded.info, "x")


def test_a_server_that_is_away_is_a_connect_error(server: Conninfo):
    with pytest.raises(ConnectError):
        least_privilege_sql(at(server, "nowhere"), "reader")


def test_the_lines_for_pg_hba_confine_the_role(passable_dir: Path):
    lines = ('hostssl "guarded" "reader" ADDRESS/32 scram-sha-256', 'host all "reader" all reject')
    hba = "\n".join([*lines, "host all all all scram-sha-256\n"]).replace("ADDRESS", "127.0.0.1")
    with encrypted_server(passable_dir, hba) as info:
        admin = f"postgresql://backstop:{info.password}@{info.parameters['host']}/"
        Database("postgres", f"{admin}postgres").run("CREATE DATABASE guarded")
        sql = least_privilege_sql(at(info, "guarded"), "reader")
        assert {f"-- {line}" for line in lines} <= set(sql.splitlines())
        Database("guarded", f"{admin}guarded").run(sql)
        Database("guarded", f"{admin}guarded").run(f"ALTER ROLE reader PASSWORD '{PASSWORD}'")
        reader = replace(at(info, "guarded", user="reader"), password=PASSWORD)
        inside = {step.name: step for step in check_connection(reader, pg_bin_dir=programs(15))}
        assert inside[RIGHTS].passed
        outside = check_connection(at(reader, "postgres"), pg_bin_dir=programs(15))
        refused = {step.name: step for step in outside}[SIGN_IN]
        assert "pg_hba.conf rejects" in refused.detail


def steps(guarded: Guarded):
    return check_connection(guarded.as_role, pg_bin_dir=programs(guarded.major))
