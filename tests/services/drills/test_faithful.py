"""A drill loads as the server's own `pg_restore --create` would: what was dumped is what comes."""

from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
from flask import Flask

from app.models import Kind, Level, Result
from app.services.proofs import assertions
from tests.conftest import Database
from tests.services.drills.conftest import newest_proof
from tests.services.restores.conftest import attempt, backed_up, restored

pytestmark = pytest.mark.usefixtures("isolated", "context")


def test_the_settings_of_the_database_are_in_force_before_the_first_row(shop: Database):
    name = f'"{shop.name}"'
    shop.run(f"ALTER DATABASE {name} SET app.tenant = '42'")
    shop.run(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    shop.run(f"ALTER DATABASE {name} SET lc_monetary = 'C.utf8'")
    shop.run(f"""
        CREATE TABLE rented (t int CHECK (t = current_setting('app.tenant')::int), amount money);
        INSERT INTO rented VALUES (42, '12.34');
        CREATE TABLE at (said timestamp);
        CREATE MATERIALIZED VIEW moment AS
            SELECT to_char(timestamptz '2026-01-01 00:00+00', 'HH24') AS hour FROM pg_sleep(0.3);
        CREATE ROLE "{shop.name}_r";
        ALTER ROLE "{shop.name}_r" IN DATABASE {name} SET work_mem = '9MB';
        ALTER DATABASE {name} SET quote_all_identifiers = on;
        ALTER DATABASE {name} SET statement_timeout = '200ms';
        ALTER DATABASE {name} SET default_transaction_read_only = on;
    """)
    assertions.add_assertion("hour", "SELECT hour = '09' FROM moment", created_by="ann")
    try:
        row = restored(backed_up(), Kind.DRILL)
        assert row.result["differences"] == []
        assert [each["passed"] for each in row.result["assertions"]] == [True]
    finally:
        shop.run(
            "SET statement_timeout = 0; COMMIT; BEGIN READ WRITE;"
            f'DROP OWNED BY "{shop.name}_r"; DROP ROLE "{shop.name}_r"; COMMIT'
        )


def test_the_database_has_its_own_name_and_its_roles(shop: Database):
    shop.run(f"""
        CREATE ROLE "{shop.name} a, b"; CREATE ROLE "{shop.name}_c";
        CREATE SCHEMA of_a AUTHORIZATION "{shop.name} a, b";
        CREATE TABLE of_a.t (x int CHECK (current_database() = '{shop.name}'));
        INSERT INTO of_a.t VALUES (1);
        GRANT SELECT (x) ON of_a.t TO "{shop.name}_c" WITH GRANT OPTION;
        ALTER DEFAULT PRIVILEGES FOR ROLE "{shop.name} a, b" IN SCHEMA of_a
            GRANT SELECT ON TABLES TO "{shop.name}_c";
        CREATE POLICY own ON of_a.t FOR SELECT TO "{shop.name} a, b", "{shop.name}_c" USING (true);
        CREATE FOREIGN DATA WRAPPER nowhere;
        CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
        CREATE USER MAPPING FOR "{shop.name}_c" SERVER far;
    """)
    try:
        row = restored(backed_up(), Kind.DRILL)
        assert (row.result["differences"], row.result["missingRoles"]) == ([], [])
    finally:
        for role in (f'"{shop.name} a, b"', f'"{shop.name}_c"'):
            shop.run(f"DROP OWNED BY {role} CASCADE")
        shop.run(f'DROP ROLE "{shop.name} a, b", "{shop.name}_c"')


def test_tablespaces_and_what_needs_a_superuser_come_too(shop: Database):
    with closing(psycopg2.connect(shop.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SET allow_in_place_tablespaces = on")
        cursor.execute(f"CREATE TABLESPACE {shop.name} LOCATION ''")
    shop.run(f"ALTER TABLE orders SET TABLESPACE {shop.name}")
    shop.run("""
        CREATE EXTENSION pg_buffercache;
        CREATE FUNCTION hard(int) RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT $1';
        CREATE PUBLICATION all_of_it FOR ALL TABLES;
        CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'nothing is changed here'; END $$;
        CREATE FUNCTION last_of_all() RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE MATERIALIZED VIEW late AS SELECT last_of_all();
        CREATE EVENT TRIGGER refuses ON ddl_command_start EXECUTE FUNCTION refuse();
        COMMENT ON EVENT TRIGGER refuses IS 'refuses';
    """)
    row = restored(backed_up(), Kind.DRILL)
    shop.run("DROP EVENT TRIGGER refuses; DROP TABLE orders")
    shop.run(f"DROP TABLESPACE {shop.name}")
    assert (row.result["differences"], row.result["leftOut"]) == ([], [])


def test_a_view_that_is_refreshed_with_rights_of_another_role_comes_too(shop: Database):
    reader, group = f"{shop.name}_reader", f"{shop.name}_group"
    shop.run(f"""
        CREATE ROLE {group}; CREATE ROLE {reader} IN ROLE {group};
        GRANT SELECT ON orders TO {group};
        CREATE SCHEMA of_reader AUTHORIZATION {reader};
        CREATE MATERIALIZED VIEW of_reader.seen AS SELECT count(*) FROM orders;
        ALTER MATERIALIZED VIEW of_reader.seen OWNER TO {reader};
    """)
    try:
        assert restored(backed_up(), Kind.DRILL).result["differences"] == []
    finally:
        shop.run(f"DROP OWNED BY {reader} CASCADE; DROP OWNED BY {group}")
        shop.run(f"DROP ROLE {reader}, {group}")


def test_a_schema_public_that_was_dropped_stays_away(shop: Database):
    shop.run("CREATE SCHEMA own; ALTER TABLE orders SET SCHEMA own; DROP SCHEMA public CASCADE")
    assert restored(backed_up(), Kind.DRILL).result["differences"] == []


def test_a_subscription_is_left_out_and_named(shop: Database):
    shop.run(
        "CREATE SUBSCRIPTION pulls CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p"
        " WITH (connect = false, slot_name = NONE, create_slot = false, enabled = false)"
    )
    try:
        assert restored(backed_up(), Kind.DRILL).result["leftOut"] == ["SUBSCRIPTION pulls"]
    finally:
        shop.run("DROP SUBSCRIPTION pulls")


def test_a_dump_that_does_not_load_fails_its_proof(shop: Database):
    shop.run("""
        CREATE TABLE lied (x int);
        INSERT INTO lied VALUES (1);
        CREATE FUNCTION holds(int) RETURNS bool LANGUAGE sql AS 'SELECT true';
        ALTER TABLE lied ADD CHECK (holds(x));
        CREATE OR REPLACE FUNCTION holds(int) RETURNS bool LANGUAGE sql AS 'SELECT false';
    """)
    filename = backed_up()
    row = attempt(filename, Kind.DRILL)
    proof = newest_proof(filename)
    assert (proof.level, proof.result) == (Level.RESTORED, Result.FAILED)
    assert "violates check constraint" in row.error_detail


def test_an_assertion_that_does_not_hold_fails_it_too(
    shop: Database, make_app: Callable[..., Flask]
):
    assertions.add_assertion("enough", "SELECT count(*) > 1000 FROM orders", created_by="ann")
    filename = backed_up()
    assert not attempt(filename, Kind.DRILL).is_completed
    proof = newest_proof(filename)
    assert (proof.level, proof.result) == (Level.ASSERTED, Result.FAILED)
