"""What is hidden in a database never runs with the rights of whoever backs it up or restores it."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from app.models import Kind
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from tests.conftest import Database, url_of
from tests.services.restores.conftest import attempt, backed_up, restored

pytestmark = pytest.mark.usefixtures("context")

# Tries each way to run a program of the server, and remembers none that has failed.
_STRIKE = """
    CREATE SCHEMA IF NOT EXISTS trap;
    CREATE FUNCTION trap.hit(name text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
    DECLARE attempt text;
    BEGIN
        FOREACH attempt IN ARRAY ARRAY['SELECT 1', 'RESET ROLE', 'RESET SESSION AUTHORIZATION'] LOOP
            BEGIN
                EXECUTE attempt;
                EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'touch {folder}/' || name);
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END LOOP;
        RETURN true;
    END $$;
    CREATE FUNCTION trap.strike(name text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
        AS $$ BEGIN RETURN trap.hit(name); END $$;
"""

_PLACES = """
    CREATE TABLE checked (id int CHECK (trap.strike('check')), word text);
    INSERT INTO checked SELECT n FROM generate_series(1, 20) n;
    CREATE INDEX ON checked (trap.strike('index'));
    CREATE INDEX ON checked (id) WHERE trap.strike('predicate');
    CREATE TABLE defaulted (id int, hit boolean DEFAULT trap.strike('default'),
                            made boolean GENERATED ALWAYS AS (trap.strike('generated')) STORED);
    INSERT INTO defaulted VALUES (1);
    CREATE DOMAIN guarded AS int CHECK (trap.strike('domain'));
    CREATE TABLE guards (id guarded);
    INSERT INTO guards VALUES (1);
    CREATE VIEW seen AS SELECT trap.strike('view');
    CREATE MATERIALIZED VIEW kept AS SELECT trap.strike('matview');
    CREATE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM trap.strike('trigger'); RETURN NEW; END $$;
    CREATE TRIGGER each BEFORE INSERT OR UPDATE ON checked
        FOR EACH ROW EXECUTE FUNCTION on_row();
    ALTER TABLE checked ENABLE ALWAYS TRIGGER each;
    CREATE STATISTICS guessed ON (trap.strike('statistics')), id FROM checked;
    CREATE POLICY hidden ON defaulted USING (trap.strike('policy'));
    CREATE RULE also AS ON INSERT TO guards DO ALSO SELECT trap.strike('rule');
"""

# Whoever owns a database chooses where names are looked for by all who sign in.
_SET_CONFIG = """
    CREATE FUNCTION trap.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM trap.strike('set_config');
        RETURN pg_catalog.set_config($1, $2, $3);
    END $$;
    CREATE FUNCTION trap.equal(name, text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM trap.strike('operator');
        RETURN $1 OPERATOR(pg_catalog.=) $2;
    END $$;
    CREATE OPERATOR trap.= (LEFTARG = name, RIGHTARG = text, FUNCTION = trap.equal);
"""

_SET_AT_LOAD = """
    CREATE FUNCTION set_path(int) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE pg_catalog.format('ALTER DATABASE %I SET search_path = trap, pg_catalog',
                                  pg_catalog.current_database());
        RETURN true;
    EXCEPTION WHEN OTHERS THEN RETURN true;
    END $$;
    CREATE TABLE paths (id int CHECK (set_path(id)));
    INSERT INTO paths VALUES (1);
"""


@pytest.fixture
def marks(passable_dir: Path) -> Path:
    """Where a program that has been run leaves its mark."""
    folder = passable_dir / secrets.token_hex(4)
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def mallory(shop: Database, server: Conninfo) -> Iterator[Database]:
    """The shop as its owner sees it, who may do nothing else."""
    name, password = f"mallory_{secrets.token_hex(4)}", secrets.token_hex(8)
    shop.run(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    shop.run(f'ALTER DATABASE "{shop.name}" OWNER TO {name}')
    yield Database(shop.name, url_of(server, shop.name, name, password))
    shop.run(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}")
    for (database,) in shop.run(
        "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s", name
    ):
        shop.run(f'ALTER DATABASE "{database}" OWNER TO CURRENT_USER')
    kept = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) AND datname <> %s"
    for (database,) in shop.run(kept, shop.name, shop.name):
        shop.run(f'DROP DATABASE "{database}" WITH (FORCE)')
    shop.run(f"DROP ROLE {name}")


@pytest.mark.parametrize("kind", [Kind.DRILL, Kind.BESIDE, Kind.REPLACE])
def test_nothing_of_a_dump_runs_as_a_superuser(
    kind: Kind, shop: Database, mallory: Database, marks: Path
):
    mallory.run(_STRIKE.replace("{folder}", str(marks)))
    mallory.run(_PLACES)
    mallory.run(_SET_CONFIG)
    mallory.run(_SET_AT_LOAD)
    mallory.run(f'ALTER DATABASE "{shop.name}" RESET search_path')
    row = attempt(backed_up(), kind)
    assert sorted(each.name for each in marks.iterdir()) == []
    assert row.is_completed, (row.error_message, row.error_detail)


def test_nothing_of_a_dump_runs_as_a_superuser_in_place(
    shop: Database, mallory: Database, marks: Path, make_app: Callable[..., Flask]
):
    ((owner,),) = mallory.run("SELECT current_user")
    shop.run(f"ALTER TABLE customers OWNER TO {owner}; ALTER TABLE orders OWNER TO {owner}")
    mallory.run(_STRIKE.replace("{folder}", str(marks)))
    mallory.run(_PLACES)
    mallory.run(_SET_CONFIG)
    mallory.run(_SET_AT_LOAD)
    with make_app(restore_url=mallory.url).app_context():
        filename = backed_up()
        mallory.run("DELETE FROM public.orders")
        row = attempt(filename, Kind.IN_PLACE)
    assert sorted(each.name for each in marks.iterdir()) == []
    assert row.is_completed, (row.error_message, row.error_detail)
    assert mallory.run("SELECT count(*) FROM public.orders") == [(500,)]


def test_nothing_of_a_database_runs_as_a_superuser_in_a_backup(
    shop: Database, mallory: Database, marks: Path
):
    mallory.run(_STRIKE.replace("{folder}", str(marks)))
    mallory.run(_SET_CONFIG)
    mallory.run(f'ALTER DATABASE "{shop.name}" SET search_path = trap, pg_catalog')
    backed_up()
    assert sorted(each.name for each in marks.iterdir()) == []


def test_the_trap_would_catch_a_superuser(shop: Database, marks: Path):
    shop.run(_STRIKE.replace("{folder}", str(marks)))
    shop.run(_PLACES)
    shop.run("INSERT INTO checked VALUES (21, '')")
    shop.run("SELECT * FROM seen")
    names = {each.name for each in marks.iterdir()}
    assert names >= {"check", "default", "index", "matview", "trigger", "view"}


def test_tables_with_functions_in_their_indexes_are_counted_without_running_one(shop: Database):
    shop.run(_STRIKE)
    shop.run("CREATE INDEX ON orders (id) WHERE trap.strike('x')")
    shop.run("CREATE INDEX ON customers (lower(name)) WHERE id > 3")
    shop.run("CREATE STATISTICS two_of_it ON (lower(name)), id FROM customers")
    made = backups.get_backup(backed_up())
    (read,) = proofs.list_proofs(made.id)
    assert (read.evidence["uncounted"], read.evidence["differences"]) == ([], [])
    assert read.evidence["rows"] == 550


@pytest.mark.parametrize("rights", ["SUPERUSER", "CREATEROLE", "IN ROLE pg_read_all_data"])
def test_a_role_with_more_rights_than_it_needs_does_not_restore(
    rights: str, living: Database, server: Conninfo, make_app: Callable[..., Flask]
):
    filename = backed_up()
    role = f"restores_{secrets.token_hex(4)}"
    living.run(f"CREATE ROLE {role} LOGIN PASSWORD 'known' {rights}")
    url = url_of(server, "postgres", role, "known")
    with make_app(restore_url=url).app_context():
        row = attempt(filename, Kind.DRILL)
    living.run(f"DROP ROLE {role}")
    assert row.error_message == f"role {role} of BACKSTOP_RESTORE_URL must not restore"


def test_a_role_of_ones_own_restores(
    living: Database, server: Conninfo, make_app: Callable[..., Flask], leftovers
):
    filename = backed_up()
    role = f"restores_{secrets.token_hex(4)}"
    living.run(f"CREATE ROLE {role} LOGIN PASSWORD 'known'")
    url = url_of(server, "postgres", role, "known")
    with make_app(restore_url=url).app_context():
        row = restored(filename, Kind.BESIDE)
        assert row.result["differences"] == []
    assert leftovers() == []
    owned = "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s"
    assert living.run(owned, role) == []
    Database(row.database, url_of(server, row.database)).run(f"DROP OWNED BY {role}")
    living.run(f"DROP ROLE {role}")


def test_event_triggers_do_not_act_upon_a_restore(
    server_15: Conninfo, make_app: Callable[..., Flask]
):
    """Before 17 they cannot be turned off."""
    admin = Database("postgres", url_of(server_15, "postgres"))
    admin.run("CREATE DATABASE guarded")
    guarded = Database("guarded", url_of(server_15, "guarded"))
    guarded.run("CREATE TABLE rows AS SELECT generate_series(1, 5) n")
    guarded.run("CREATE PUBLICATION all_of_it FOR ALL TABLES")
    guarded.run(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'nothing is changed here'; END $$"
    )
    guarded.run("CREATE EVENT TRIGGER refuses ON ddl_command_start EXECUTE FUNCTION refuse()")
    try:
        with make_app(database_url=guarded.url).app_context():
            row = restored(backed_up(), Kind.DRILL)
            assert row.result["differences"] == []
    finally:
        admin.run("DROP DATABASE guarded WITH (FORCE)")
