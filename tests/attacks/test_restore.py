"""Nobody gains a right by what a restore or a drill does with what they have made."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing as closing_
from pathlib import Path

import psycopg2
import pytest
from flask import Flask

from app.models import Kind, Restore
from app.postgres import closing
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server
from app.services.backups import listing, uploads
from app.services.recovery import reconcile
from app.services.restores import load, preview, scratch
from app.services.restores import service as restores
from tests.attacks.archives import TABLE, Piece, archive, running
from tests.conftest import Database, url_of
from tests.servers import a_server, programs
from tests.services.restores.conftest import attempt, backed_up, restored, settings

__all__ = ["settings"]  # drills run on the server itself

pytestmark = pytest.mark.usefixtures("context")

# Runs in the database that a restore makes, and nowhere else.
_IN_A_RESTORE = """
    CREATE FUNCTION mallory.evil() RETURNS int LANGUAGE plpgsql VOLATILE AS $evil$
    BEGIN
        IF current_database() LIKE 'backstop\\_%' THEN
            {code}
        END IF;
        RETURN 1;
    END $evil$;
    CREATE MATERIALIZED VIEW mallory.mv AS SELECT mallory.evil() AS x;
"""
_GRASP = """
    CREATE FUNCTION mallory.{name} LANGUAGE plpgsql VOLATILE AS $grasp$
    BEGIN
        IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
            EXECUTE 'ALTER ROLE {mallory} SUPERUSER';
        END IF;
        RETURN {value};
    END $grasp$;
"""


@pytest.fixture
def mallory(shop: Database, server: Conninfo) -> Iterator[Database]:
    """The shop as somebody sees it who has a schema of her own there, and nothing else."""
    yield from _mallory(shop, server)


def _mallory(shop: Database, server: Conninfo) -> Iterator[Database]:
    name, password = f"mallory_{secrets.token_hex(4)}", secrets.token_hex(8)
    shop.run(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    shop.run(f"CREATE SCHEMA mallory AUTHORIZATION {name}")
    yield Database(shop.name, url_of(server, shop.name, name, password))
    for (database,) in shop.run(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", shop.name
    ):
        there = Database(database, url_of(server, database))
        there.run(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}")
    shop.run(f"DROP ROLE {name}")


def name_of(mallory: Database) -> str:
    return mallory.run("SELECT current_user::text")[0][0]


def has_risen(mallory: Database) -> bool:
    return mallory.run("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0][0]


def plant(mallory: Database, sql: str) -> None:
    mallory.run(sql.replace("{mallory}", name_of(mallory)))


def in_a_restore(code: str) -> str:
    return _IN_A_RESTORE.replace("{code}", code)


def grasp(name: str = "grasp() RETURNS int", value: str = "1") -> str:
    return _GRASP.replace("{name}", name).replace("{value}", value)


def told(row: Restore) -> str:
    return f"{row.error_message} {row.error_detail} {row.result}"


# What is counted, planned and written after code of the dump has run


def test_a_table_that_was_put_into_an_extension_is_not_counted_by_the_admin(mallory: Database):
    plant(mallory, "CREATE TABLE mallory.t AS SELECT 1 AS x")
    plant(mallory, grasp())
    plant(
        mallory,
        "CREATE FUNCTION mallory.folded(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE"
        " AS $$ BEGIN PERFORM mallory.grasp(); RETURN n; END $$",
    )
    plant(
        mallory,
        in_a_restore("""
            CREATE EXTENSION citext SCHEMA mallory;
            CREATE INDEX boom ON mallory.t (mallory.folded(1));
            ALTER EXTENSION citext ADD TABLE mallory.t;
            GRANT ALL ON SCHEMA mallory TO pg_database_owner;
            ALTER TABLE mallory.t OWNER TO pg_database_owner;
        """),
    )
    row = attempt(backed_up(), Kind.DRILL)
    assert not has_risen(mallory)
    assert not row.is_completed
    assert "extension citext was not in the backup" in told(row)


_GEO = """
    CREATE TABLE spatial_ref_sys (srid integer PRIMARY KEY, auth_name text, srtext text);
    GRANT SELECT ON spatial_ref_sys TO public;
    SELECT pg_catalog.pg_extension_config_dump('spatial_ref_sys', '');
"""


@pytest.fixture
def with_geo(server_18: Conninfo, passable_dir: Path) -> Iterator[tuple[Database, Database]]:
    """A database with an extension that only a superuser may create, and somebody in it."""
    folder = passable_dir / "extension"
    folder.mkdir(mode=0o755)
    (folder / "geo.control").write_text("default_version = '1.0'\nrelocatable = false\n")
    (folder / "geo--1.0.sql").write_text(_GEO)
    for path in folder.iterdir():
        path.chmod(0o644)
    admin = Database("postgres", url_of(server_18, "postgres"))
    admin.run(f"ALTER SYSTEM SET extension_control_path = '$system:{passable_dir}'")
    admin.run("SELECT pg_reload_conf()")
    admin.run("CREATE DATABASE with_geo")
    database = Database("with_geo", url_of(server_18, "with_geo"))
    database.run("CREATE EXTENSION geo; INSERT INTO spatial_ref_sys VALUES (4326, 'EPSG')")
    people = _mallory(database, server_18)
    yield database, next(people)
    next(people, None)
    admin.run("DROP DATABASE with_geo WITH (FORCE)")
    admin.run("ALTER SYSTEM RESET extension_control_path")
    admin.run("SELECT pg_reload_conf()")
    shutil.rmtree(folder)


def test_rows_of_an_extension_are_not_loaded_by_the_admin(
    with_geo: tuple[Database, Database], make_app: Callable[..., Flask]
):
    """Its table is another one by then, with a trigger."""
    database, mallory = with_geo
    plant(mallory, grasp("boom() RETURNS trigger", "NULL"))
    plant(
        mallory,
        in_a_restore("""
            ALTER SCHEMA public RENAME TO real;
            CREATE SCHEMA public;
            CREATE TABLE public.spatial_ref_sys (srid int, auth_name text, srtext text);
            CREATE TRIGGER boom BEFORE INSERT ON public.spatial_ref_sys
                EXECUTE FUNCTION mallory.boom();
        """),
    )
    with make_app(database_url=database.url, pg_bin_dir=programs(18)).app_context():
        row = attempt(backed_up(), Kind.DRILL)
    assert not has_risen(mallory)
    assert not row.is_completed


# What is given back


_CHANGED = {
    "a function of somebody else": """
        CREATE OR REPLACE FUNCTION public.label(price numeric) RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER AS $f$ BEGIN RETURN current_user; END $f$;""",
    "a function that runs as its owner": """
        CREATE FUNCTION mallory.more() RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER AS $f$ BEGIN RETURN current_user; END $f$;""",
    "a setting of a function": "ALTER FUNCTION public.label(numeric) SET search_path = mallory;",
    "a view": "CREATE OR REPLACE VIEW public.seen AS SELECT 2 AS one;",
    "a default": "ALTER TABLE public.orders ALTER total SET DEFAULT 1;",
    "a check": "ALTER TABLE public.orders ADD CHECK (total > -5);",
    "a trigger": """
        CREATE TRIGGER more BEFORE INSERT ON public.orders
        FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();""",
    "a rule": "CREATE RULE more AS ON DELETE TO public.orders DO INSTEAD NOTHING;",
    "a policy": "CREATE POLICY more ON public.orders USING (true);",
    "an index": "CREATE INDEX more ON public.orders (total);",
    "a cast": "CREATE CAST (public.mood AS int) WITH INOUT;",
    "an operator": """
        CREATE OPERATOR public.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat);""",
    "default privileges of nobody": """
        ALTER DEFAULT PRIVILEGES FOR ROLE pg_database_owner GRANT ALL ON TABLES TO PUBLIC;""",
    "a table that is gone": "DROP TABLE public.lonely;",
    "a function in an extension": """
        DROP EXTENSION pg_trgm;
        CREATE EXTENSION pg_trgm SCHEMA public;
        CREATE FUNCTION public.more() RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER AS $f$ BEGIN RETURN current_user; END $f$;
        ALTER EXTENSION pg_trgm ADD FUNCTION public.more();""",
}
_OTHERS = """
    CREATE EXTENSION pg_trgm;
    CREATE FUNCTION label(price numeric) RETURNS text LANGUAGE plpgsql
        AS $$ BEGIN RETURN price::text; END $$;
    CREATE VIEW seen AS SELECT 1 AS one;
    CREATE TYPE mood AS ENUM ('low', 'high');
    CREATE TABLE lonely ();
"""


@pytest.mark.parametrize("what", list(_CHANGED))
def test_what_was_changed_while_a_dump_was_loaded_fails_its_drill(
    what: str, shop: Database, mallory: Database
):
    shop.run(_OTHERS)
    # Whatever cannot be done is no attack; then the drill passes.
    plant(mallory, in_a_restore(_CHANGED[what]))
    row = attempt(backed_up(), Kind.DRILL)
    assert not row.is_completed
    if what == "a function in an extension":  # whoever does not own it cannot drop it
        assert "must be owner of extension" in told(row)
    else:
        assert "found differences" in row.error_message


@pytest.mark.parametrize("what", ["a function of somebody else", "a view"])
def test_what_was_changed_while_a_dump_was_loaded_takes_nobody_s_place(
    what: str, shop: Database, mallory: Database
):
    shop.run(_OTHERS)
    plant(mallory, in_a_restore(_CHANGED[what]))
    row = attempt(backed_up(), Kind.REPLACE)
    assert not row.is_completed
    assert "is not defined as it was" in row.error_detail
    assert shop.run("SELECT label(1), one FROM seen") == [("1", 1)]


def test_an_index_that_no_dump_tells_of_takes_nobody_s_place(
    shop: Database, mallory: Database, server: Conninfo
):
    """One that is not valid; its function runs as whoever writes into the table.

    It takes a second session: up to 14, the role that loads can grant itself to somebody.
    """
    plant(mallory, grasp())
    plant(
        mallory,
        "CREATE FUNCTION mallory.folded(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE"
        " AS $$ BEGIN PERFORM mallory.grasp(); RETURN n; END $$",
    )
    real = closing.lock_out

    def lock_out(there: Server, role: str) -> None:
        patch.undo()
        shop.run(f"ALTER ROLE {role} PASSWORD 'known'")
        login = Database(role, url_of(server, role, role, "known"))
        with closing_(psycopg2.connect(login.url)) as old, old.cursor() as cursor:
            old.set_session(isolation_level="REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM orders")
            make = "CREATE INDEX CONCURRENTLY boom ON orders (mallory.folded(id))"
            with pytest.raises(psycopg2.errors.QueryCanceled):  # it waits for the older snapshot
                Database(role, f"{login.url}&options=-cstatement_timeout%3D1000").run(make)
        real(there, role)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing, "lock_out", lock_out)
        row = attempt(backed_up(), Kind.REPLACE)
    shop.run("INSERT INTO orders VALUES (0, 1, 1)")
    assert not has_risen(mallory)
    assert not row.is_completed
    assert "index public.boom" in row.error_detail


def test_what_was_changed_while_a_dump_was_loaded_is_given_to_nobody(
    shop: Database, mallory: Database, server: Conninfo
):
    shop.run(_OTHERS)
    plant(mallory, in_a_restore(_CHANGED["a function that runs as its owner"]))
    row = restored(backed_up(), Kind.BESIDE)
    assert any("mallory.more()" in each for each in row.result["differences"])
    copy = Database(row.database, url_of(server, row.database))
    owners = "SELECT DISTINCT rolname, rolsuper, rolcanlogin, rolbypassrls FROM pg_roles"
    of_all = f"{owners} JOIN pg_proc ON proowner = pg_roles.oid WHERE proname IN ('more', 'label')"
    assert copy.run(of_all) == [(f"{row.database}_owner", False, False, False)]
    shop.run(f'DROP DATABASE "{copy.name}" WITH (FORCE)')
    shop.run(f'DROP ROLE "{copy.name}_owner"')


def test_what_belonged_to_somebody_who_is_not_there_is_given_to_nobody(
    shop: Database, mallory: Database, server: Conninfo, server_15: Conninfo, make_app
):
    """The database's owner may be a superuser there."""
    mallory.run(
        "CREATE FUNCTION mallory.mine() RETURNS text LANGUAGE sql SECURITY DEFINER"
        " AS 'SELECT current_user::text'"
    )
    filename = backed_up()
    admin = Database("postgres", url_of(server_15, "postgres"))
    with make_app(database_url=admin.url).app_context():
        row = restored(filename, Kind.BESIDE, into="moved")
    assert row.result["missingRoles"] == [name_of(mallory)]
    moved = Database("moved", url_of(server_15, "moved"))
    assert moved.run("SELECT mallory.mine()") == [("moved_owner",)]
    assert moved.run(
        "SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = 'moved_owner'"
    ) == [(False, False)]
    admin.run("DROP DATABASE moved")
    admin.run("DROP ROLE moved_owner")


def test_a_grant_on_the_database_that_the_dump_makes_does_not_last(
    shop: Database, mallory: Database, server: Conninfo
):
    plant(
        mallory,
        in_a_restore(
            "EXECUTE format('GRANT ALL ON DATABASE %I TO {mallory}', current_database());"
        ),
    )
    row = restored(backed_up(), Kind.BESIDE)
    copy = Database(row.database, url_of(server, row.database))
    may = "SELECT has_database_privilege(%s, current_database(), 'CREATE')"
    assert copy.run(may, name_of(mallory)) == [(False,)]


_GRANTED = """
    EXECUTE 'GRANT ALL ON public.customers TO {mallory} WITH GRANT OPTION';
    EXECUTE 'GRANT SELECT (total), UPDATE (total) ON public.orders TO PUBLIC';
    EXECUTE 'GRANT ALL ON SCHEMA public TO PUBLIC';
    EXECUTE 'GRANT ALL ON SEQUENCE public.numbers TO {mallory}';
    EXECUTE 'GRANT ALL ON FUNCTION public.secret(text, int[]) TO {mallory}';
    EXECUTE 'GRANT ALL ON FUNCTION public.secret() TO PUBLIC';
    EXECUTE 'GRANT ALL ON TYPE public."a, mood" TO {mallory}';
    EXECUTE 'GRANT ALL ON LARGE OBJECT 4711 TO {mallory}';
"""
_MAY = """
    SELECT has_table_privilege('public.customers', 'SELECT'),
           has_column_privilege('public.orders', 'total', 'SELECT'),
           has_column_privilege('public.orders', 'total', 'UPDATE'),
           has_schema_privilege('public', 'CREATE'),
           has_sequence_privilege('public.numbers', 'USAGE'),
           has_function_privilege('public.secret(text, int[])', 'EXECUTE'),
           has_function_privilege('public.secret()', 'EXECUTE'),
           has_type_privilege('public."a, mood"', 'USAGE'),
           (SELECT COALESCE(lomacl::text, '') LIKE '%mallory%' FROM pg_largeobject_metadata)
"""
_WITH_GRANTS = """
    CREATE SEQUENCE numbers;
    CREATE TYPE "a, mood" AS ENUM ('low');
    CREATE FUNCTION secret(text, int[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION secret() RETURNS int LANGUAGE sql AS 'SELECT 1';
    REVOKE ALL ON FUNCTION secret(text, int[]), secret() FROM PUBLIC;
    REVOKE ALL ON TYPE "a, mood" FROM PUBLIC;
    GRANT SELECT (id) ON customers TO PUBLIC;
    SELECT lo_create(4711);
"""


def test_grants_that_the_dump_makes_do_not_last(
    shop: Database, mallory: Database, server: Conninfo
):
    shop.run(_WITH_GRANTS)
    plant(mallory, in_a_restore(_GRANTED))
    row = restored(backed_up(), Kind.BESIDE)
    assert row.result["differences"] == []
    hers = mallory.url.replace(f"/{shop.name}?", f"/{row.database}?")
    copy = Database(row.database, hers)
    assert copy.run(_MAY) == mallory.run(_MAY) == [(False,) * 9]
    assert copy.run("SELECT count(id) FROM customers") == [(50,)]  # that was granted
    shop.run(f'DROP DATABASE "{copy.name}"')


def test_where_something_differs_nobody_is_let_in(
    shop: Database, mallory: Database, server: Conninfo
):
    """Functions that were added there run with the rights over all of it."""
    code = """
        CREATE FUNCTION public.more() RETURNS SETOF public.customers LANGUAGE sql
            SECURITY DEFINER AS $f$ SELECT * FROM public.customers $f$;
        EXECUTE 'GRANT SELECT ON public.customers TO {mallory}';
    """
    plant(mallory, in_a_restore(code))
    row = restored(backed_up(), Kind.BESIDE)
    assert any("public.more()" in each for each in row.result["differences"])
    hers = mallory.url.replace(f"/{shop.name}?", f"/{row.database}?")
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        Database(row.database, hers).run("SELECT * FROM public.more()")
    copy = Database(row.database, url_of(server, row.database))
    assert copy.run("SELECT count(*) FROM customers") == [(50,)]
    assert copy.run("SELECT has_table_privilege(%s, 'customers', 'SELECT')", name_of(mallory)) == [
        (False,)
    ]
    shop.run(f'DROP DATABASE "{copy.name}" WITH (FORCE)')
    shop.run(f'DROP ROLE "{copy.name}_owner"')


def test_who_was_made_a_member_of_the_role_that_loads_is_none_any_more(
    shop: Database, mallory: Database, server: Conninfo
):
    """Up to 14, it can grant itself to others; it keeps all of it where something differs."""
    plant(mallory, in_a_restore("CREATE FUNCTION mallory.more() RETURNS int RETURN 1;"))
    real = closing.lock_out

    def lock_out(there: Server, role: str) -> None:
        patch.undo()
        shop.run(f"GRANT {role} TO {name_of(mallory)}")
        real(there, role)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing, "lock_out", lock_out)
        row = restored(backed_up(), Kind.BESIDE)
    hers = mallory.url.replace(f"/{shop.name}?", f"/{row.database}?")
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        Database(row.database, hers).run("SELECT * FROM customers")
    shop.run(f'DROP DATABASE "{row.database}" WITH (FORCE)')
    shop.run(f'DROP ROLE "{row.database}_owner"')


# What is resolved in the maintenance database


@pytest.mark.parametrize("what", ["replace", "undo"])
def test_an_aggregate_in_the_maintenance_database_is_not_called(
    what: str, shop: Database, mallory: Database, server: Conninfo
):
    """CREATE on its schema public was everybody's up to 14, and stays so through upgrades."""
    admin = Database("postgres", url_of(server, "postgres"))
    admin.run("GRANT CREATE ON SCHEMA public TO PUBLIC")
    name, url = name_of(mallory), mallory.url.replace(f"/{shop.name}?", "/postgres?")
    there = Database("postgres", url)
    try:
        there.run(
            grasp("count_s(s bigint, b boolean) RETURNS bigint", "s + 1")
            .replace("mallory.count_s", "public.count_s")
            .replace("{mallory}", name)
        )
        there.run(
            "CREATE AGGREGATE public.count(boolean)"
            " (SFUNC = public.count_s, STYPE = bigint, INITCOND = '0')"
        )
        row = None
        if what == "undo":
            row = restored(backed_up(), Kind.REPLACE)
        with closing_(psycopg2.connect(shop.url)):  # a session that has to go
            if row is None:
                restored(backed_up(), Kind.REPLACE)
            else:
                restores.undo_restore(row.id, by="ann")
        assert not has_risen(mallory)
    finally:
        there.run(
            "DROP AGGREGATE IF EXISTS public.count(boolean); DROP FUNCTION IF EXISTS public.count_s"
        )
        admin.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


# What a dump leaves behind


_STAY = """
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database());
        EXECUTE format('ALTER ROLE %I PASSWORD ''known''', current_user);
    END $$;
"""


def test_a_dump_leaves_neither_a_login_nor_a_database(tmp_path: Path, leftovers):
    path = tmp_path / "theirs.dump"
    path.write_bytes(running(_STAY))
    attempt(uploads.import_file(path).filename, Kind.DRILL)
    assert leftovers() == []


def test_a_prepared_transaction_does_not_keep_a_database(
    passable_dir: Path, tmp_path: Path, make_app: Callable[..., Flask]
):
    path = tmp_path / "theirs.dump"
    sql = "BEGIN; CREATE TABLE public.p (x int); PREPARE TRANSACTION 'stays';\n"
    path.write_bytes(running(sql))
    with a_server(17, passable_dir / "prepares", "max_prepared_transactions = 2") as info:
        admin = Database("postgres", url_of(info, "postgres"))
        with make_app(database_url=admin.url).app_context():
            attempt(uploads.import_file(path).filename, Kind.DRILL)
            reconcile()
        assert admin.run("SELECT gid FROM pg_prepared_xacts") == []
        left = "SELECT datname FROM pg_database WHERE starts_with(datname, 'backstop_')"
        assert admin.run(left) == []
        left = "SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'backstop_')"
        assert admin.run(left) == []


def test_a_role_that_has_made_something_elsewhere_goes_with_it(
    shop: Database, server: Conninfo, tmp_path: Path, leftovers
):
    """A large object can be made by anybody who may connect."""
    path = tmp_path / "theirs.dump"
    path.write_bytes(running(_STAY))
    real = scratch.tidy

    def tidy(there: object, restore_id: str, name: str) -> None:
        login = Database(shop.name, url_of(server, shop.name, name, "known"))
        login.run("SELECT lo_from_bytea(0, 'left')")
        real(there, restore_id, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "tidy", tidy)
        attempt(uploads.import_file(path).filename, Kind.DRILL)
    assert leftovers() == []


# What a dump takes


def test_a_dump_that_sleeps_is_ended(tmp_path: Path, leftovers, make_app: Callable[..., Flask]):
    path = tmp_path / "theirs.dump"
    path.write_bytes(running("SELECT pg_sleep(600);\n"))
    with make_app(stall_timeout=3).app_context():
        row = attempt(uploads.import_file(path).filename, Kind.DRILL)
    assert row.error_message == "the restore did not move for 3 s and was ended"
    assert leftovers() == []


def test_a_dump_that_fills_the_disk_is_ended(
    tmp_path: Path, leftovers, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "theirs.dump"
    path.write_bytes(
        running(
            "DO $$ BEGIN CREATE TABLE fat (x text); FOR at IN 1..100000 LOOP"
            " INSERT INTO fat SELECT repeat(md5(n::text), 60) FROM generate_series(1, 2000) n;"
            " END LOOP; END $$;\n"
        )
    )
    monkeypatch.setattr(load, "_SPARE_DISK", 32 * 1024**2)
    row = attempt(uploads.import_file(path).filename, Kind.DRILL)
    assert row.error_message == "the new database took more than 32.0 MiB and was dropped"
    assert leftovers() == []


def test_the_size_of_a_foreign_dump_is_known_by_its_rows(tmp_path: Path):
    path = tmp_path / "theirs.dump"
    rows = b"1\n" * 500_000 + b"\\.\n\n"
    data = Piece(
        14, "TABLE DATA", "t", copy="COPY public.t (x) FROM stdin;\n", rows=rows, needs=(13,)
    )
    path.write_bytes(archive(TABLE, data))
    made = uploads.import_file(path)
    assert made.is_completed, (made.error_message, made.error_detail)
    assert made.contents["rowBytes"] == 1_000_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "free_space", lambda _: 500_000)
        row = attempt(made.filename, Kind.DRILL)
    assert "there is no room for the new database" in row.error_message


# What the panel tells an admin to run


def test_a_comment_on_a_role_is_no_statement(shop: Database, mallory: Database):
    name = name_of(mallory)
    text = f"the shop's \\\nCREATE ROLE {name} SUPERUSER;\nGRANT pg_monitor TO {name};\n"
    shop.run(f"COMMENT ON ROLE {name} IS %s", text)
    filename = backed_up()
    listed = listing.get_backup(filename).contents["roles"]
    told = preview.creating([name], listed)
    assert [each.partition(" WITH ")[0] for each in told[:-1]] == [f'CREATE ROLE "{name}"']
    assert told[-1].startswith(f'COMMENT ON ROLE "{name}" IS ')
    assert "\n" not in told[-1]
    shop.run(told[-1])
    assert shop.run("SELECT shobj_description(%s::regrole, 'pg_authid')", name) == [(text,)]
