"""What a server says of itself, and what a role may not read there: real servers, real roles."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from app.errors import ConnectError, PostgresError
from app.postgres import inspection
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.inspection import NOTHING, Barred, Rights, inspect, inspect_rights
from tests.conftest import Database
from tests.postgres.conftest import Role, as_admin, at, make_dump, signed_in_as

NewRole = Callable[..., Role]


def as_role(role: Role, database: Database) -> Conninfo:
    return signed_in_as(role, parse_url(database.url))


@pytest.fixture
def low(new_role: NewRole, shop: Database) -> Iterator[tuple[Role, Conninfo]]:
    """A role that may read the shop's two tables, and how it signs in."""
    role = new_role()
    shop.run(f"GRANT SELECT ON customers, orders TO {role.name}")
    yield role, as_role(role, shop)
    shop.run(f"DROP OWNED BY {role.name}")


def test_a_server_tells_version_role_and_size(shop: Database, low: tuple[Role, Conninfo]):
    found = inspect(parse_url(shop.url))
    assert found.version.major >= 15
    assert found.is_superuser
    assert found.database_size == shop.run("SELECT pg_database_size(current_database())")[0][0]
    of_low = inspect(low[1])
    assert (of_low.role, of_low.is_superuser) == (low[0].name, False)


@pytest.mark.parametrize("shift", [0, 3600, -3600])
def test_the_clocks_are_compared(shop: Database, monkeypatch: pytest.MonkeyPatch, shift: int):
    class Shifted:
        time = staticmethod(lambda: time.time() - shift)

    monkeypatch.setattr(inspection, "time", Shifted)
    assert abs(inspect(parse_url(shop.url)).clock_ahead - shift) < 2


def test_a_superuser_may_read_all(shop: Database):
    shop.run("SELECT lo_from_bytea(0, 'x')")
    shop.run(
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE orders FORCE ROW LEVEL SECURITY"
    )
    rights = inspect_rights(parse_url(shop.url))
    assert rights == Rights(
        tables=Barred(2, 0, ()),
        sequences=NOTHING,
        schemas=Barred(1, 0, ()),
        row_security=Barred(2, 0, ()),
        large_objects=Barred(1, 0, ()),
    )


def test_what_a_role_may_not_read_is_named(shop: Database, low: tuple[Role, Conninfo]):
    assert inspect_rights(low[1]).tables == Barred(2, 0, ())
    shop.run("""
        CREATE TABLE salaries (id serial);
        CREATE TABLE parts (id int) PARTITION BY RANGE (id);
        CREATE SCHEMA hidden;
        CREATE TABLE hidden.inside (id int);
        CREATE SCHEMA empty;
        CREATE MATERIALIZED VIEW seen AS SELECT 1;
        CREATE VIEW view AS SELECT 1
    """)
    shop.run(f"GRANT SELECT ON hidden.inside TO {low[0].name}")
    rights = inspect_rights(low[1])
    assert rights.tables == Barred(5, 2, ("public.parts", "public.salaries"))
    assert rights.sequences == Barred(1, 1, ("public.salaries_id_seq",))
    assert rights.schemas == Barred(2, 1, ("hidden",))
    shop.run(f"GRANT pg_read_all_data TO {low[0].name}")
    rights = inspect_rights(low[1])
    assert (rights.tables.barred, rights.sequences.barred, rights.schemas.barred) == (0, 0, 0)


def test_row_security_counts_where_it_applies_to_the_role(
    shop: Database, low: tuple[Role, Conninfo]
):
    role, info = low
    shop.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    assert inspect_rights(info).row_security == Barred(2, 1, ("public.orders",))
    shop.run(f"ALTER ROLE {role.name} SET row_security = off")
    assert inspect_rights(info).row_security.barred == 1
    shop.run(f"ALTER TABLE orders OWNER TO {role.name}")
    assert inspect_rights(info).row_security.barred == 0
    shop.run("ALTER TABLE orders FORCE ROW LEVEL SECURITY")
    assert inspect_rights(info).row_security.barred == 1
    shop.run(f"ALTER ROLE {role.name} BYPASSRLS")
    assert inspect_rights(info).row_security.barred == 0
    shop.run("ALTER TABLE orders OWNER TO CURRENT_USER")


def test_large_objects_are_readable_by_owner_grant_or_setting(
    shop: Database, low: tuple[Role, Conninfo]
):
    role, info = low
    made = [shop.run("SELECT lo_from_bytea(0, 'x')")[0][0] for _ in range(4)]
    assert inspect_rights(info).large_objects == Barred(4, 4, tuple(sorted(map(str, made))))
    shop.run(f"GRANT SELECT ON LARGE OBJECT {made[0]} TO {role.name}")
    shop.run(f"GRANT SELECT ON LARGE OBJECT {made[1]} TO PUBLIC")
    shop.run(f"ALTER LARGE OBJECT {made[2]} OWNER TO {role.name}")
    shop.run(f"GRANT UPDATE ON LARGE OBJECT {made[3]} TO {role.name}")
    assert inspect_rights(info).large_objects == Barred(4, 1, (str(made[3]),))
    shop.run(f"ALTER ROLE {role.name} SET lo_compat_privileges = on")
    assert inspect_rights(info).large_objects.barred == 0


@pytest.mark.parametrize("major", [15, 18])
def test_the_questions_are_understood_by_older_and_newer_servers(
    request: pytest.FixtureRequest, major: int
):
    server = request.getfixturevalue(f"server_{major}")
    as_admin(server).run("CREATE DATABASE inspected")
    info = at(server, "inspected")
    admin = as_admin(server, "inspected")
    admin.run("CREATE ROLE low LOGIN PASSWORD 'low'")
    admin.run("CREATE TABLE t (id serial); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    made = [admin.run("SELECT lo_from_bytea(0, 'x')")[0][0] for _ in range(2)]
    admin.run(f"GRANT SELECT ON LARGE OBJECT {made[0]} TO low")
    low = signed_in_as(Role("low", "low"), info)
    try:
        assert inspect(low).version.major == major
        rights = inspect_rights(low)
        assert rights.tables == Barred(1, 1, ("public.t",))
        assert rights.sequences == Barred(1, 1, ("public.t_id_seq",))
        assert rights.row_security == Barred(1, 1, ("public.t",))
        assert rights.large_objects == Barred(2, 1, (str(made[1]),))
        admin.run("ALTER ROLE low SET lo_compat_privileges = on")
        assert inspect_rights(low).large_objects.barred == 0
    finally:
        as_admin(server).run("DROP DATABASE inspected WITH (FORCE)")
        as_admin(server).run("DROP ROLE low")


def test_an_empty_database_has_nothing_to_bar(new_database: Callable[..., Database]):
    assert inspect_rights(parse_url(new_database().url)) == Rights()


def test_the_output_is_bounded_whatever_there_is(shop: Database, low: tuple[Role, Conninfo]):
    shop.run("".join(f"CREATE TABLE t{n} ();" for n in range(300)))
    tables = inspect_rights(low[1]).tables
    assert (tables.all, tables.barred, len(tables.names)) == (302, 300, 5)


def test_tables_of_extensions_and_temporary_ones_are_left_out(
    shop: Database, low: tuple[Role, Conninfo]
):
    shop.run("CREATE TABLE of_extension (id serial); CREATE TABLE configured (id int)")
    shop.run("CREATE EXTENSION pg_trgm")  # it has no table; these two are given to it
    shop.run("ALTER EXTENSION pg_trgm ADD TABLE of_extension")
    shop.run("ALTER EXTENSION pg_trgm ADD SEQUENCE of_extension_id_seq")
    shop.run("ALTER EXTENSION pg_trgm ADD TABLE configured")
    shop.run("""
        UPDATE pg_extension
        SET extconfig = ARRAY['configured'::regclass::oid], extcondition = '{""}'
        WHERE extname = 'pg_trgm'
    """)
    with closing(psycopg2.connect(shop.url)) as another, another.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE passing (id int)")
        another.commit()
        rights = inspect_rights(low[1])
    assert rights.tables == Barred(3, 1, ("public.configured",))
    assert rights.sequences == NOTHING


def test_names_cannot_fool_us(shop: Database, low: tuple[Role, Conninfo]):
    shop.run('CREATE TABLE "we""ird\n\'; DROP TABLE orders; --" (id int)')
    assert inspect_rights(low[1]).tables.names == ('public."we""ird\n\'; DROP TABLE orders; --"',)


def test_a_hostile_schema_in_the_path_answers_nothing(shop: Database, low: tuple[Role, Conninfo]):
    role, info = low
    shop.run(f"""
        CREATE TABLE salaries (id int);
        CREATE SCHEMA lies;
        GRANT USAGE ON SCHEMA lies TO {role.name};
        CREATE FUNCTION lies.has_table_privilege(oid, text) RETURNS bool LANGUAGE sql
            AS 'SELECT true';
        CREATE FUNCTION lies.clock_timestamp() RETURNS timestamptz LANGUAGE sql
            AS 'SELECT now() + interval ''1 day''';
        ALTER ROLE {role.name} SET search_path = lies, pg_catalog
    """)
    assert inspect_rights(info).tables.names == ("public.salaries",)
    assert abs(inspect(info).clock_ahead) < 2


@pytest.mark.parametrize("right", ["", "SELECT ON ALL TABLES IN SCHEMA public", "pg_read_all_data"])
def test_pg_dump_is_of_the_same_opinion(
    shop: Database, low: tuple[Role, Conninfo], tmp_path_factory, right: str, request
):
    """What is told here is what decides whether the dump succeeds."""
    role, info = low
    shop.run("CREATE TABLE salaries (id serial)")
    if right:
        shop.run(f"GRANT {right} TO {role.name}")
    rights = inspect_rights(info)
    is_barred = any((rights.tables.barred, rights.sequences.barred, rights.schemas.barred))
    chain = request.getfixturevalue("own_toolchain")
    try:
        make_dump(chain, info, tmp_path_factory.mktemp("dump") / "it.dump")
    except PostgresError:
        assert is_barred
    else:
        assert not is_barred


def test_a_dead_server_is_a_connect_error(server: Conninfo):
    nowhere = replace(server, parameters={**server.parameters, "host": "127.0.0.1", "port": "1"})
    with pytest.raises(ConnectError, match="no connection to database"):
        inspect(nowhere)


@pytest.mark.parametrize("after", [1, 400, 800])
def test_a_server_that_falls_silent_is_not_waited_for(
    proxy: Callable[..., Conninfo], shop: Database, monkeypatch: pytest.MonkeyPatch, after: int
):
    monkeypatch.setattr("app.postgres.connection.CONNECT_TIMEOUT", 1)
    monkeypatch.setattr(inspection, "_PATIENCE", 1.0)
    with pytest.raises(PostgresError) as refused:
        inspect(proxy(parse_url(shop.url), after=after))
    assert "no answer within 1 s" in refused.value.detail


def test_a_question_that_takes_too_long_is_ended_on_the_server(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inspection, "_SERVER", "SELECT pg_sleep(60)")
    monkeypatch.setattr(
        inspection, "_PREPARE", "SELECT set_config('statement_timeout', '100', true)"
    )
    with pytest.raises(PostgresError, match="did not answer") as refused:
        inspect(parse_url(shop.url))
    assert "statement timeout" in refused.value.detail
