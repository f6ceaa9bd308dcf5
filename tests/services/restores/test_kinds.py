"""Databases of many kinds come back as they were, or are told not to, and by what."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from app.models import Kind, Level, Result
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from app.services.restores import service as restores
from app.services.restores.source import get_source
from tests.conftest import Database, url_of
from tests.servers import a_server, programs, toolchain
from tests.services.restores.comparison import seen
from tests.services.restores.conftest import attempt, backed_up, restored
from tests.services.restores.test_rich import RICH

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Place:
    """A server of one major version, and what makes databases there."""

    major: int
    info: Conninfo
    admin: Database
    app: Callable[..., Flask]

    def made(self, sql: str, name: str = "") -> Database:
        name = name or f"kind_{secrets.token_hex(4)}"
        self.admin.run(f'CREATE DATABASE "{name}" TEMPLATE template0')
        database = Database(name, url_of(self.info, name))
        database.run(sql.replace("{database}", f'"{name}"') or "SELECT 1")
        return database

    def panel(self, database: Database) -> Flask:
        return self.on(database.url)

    def on(self, url: str) -> Flask:
        drill_url = url_of(self.info, "postgres")
        return self.app(database_url=url, drill_url=drill_url, pg_bin_dir=programs(self.major))


@pytest.fixture(params=[15, 17, 18])
def place(request: pytest.FixtureRequest, make_app: Callable[..., Flask]) -> Iterator[Place]:
    yield from _place(request, make_app, request.param)


@pytest.fixture
def one_place(request: pytest.FixtureRequest, make_app: Callable[..., Flask]) -> Iterator[Place]:
    yield from _place(request, make_app, 17)


def _place(
    request: pytest.FixtureRequest, make_app: Callable[..., Flask], major: int
) -> Iterator[Place]:
    info = request.getfixturevalue("server" if major == 17 else f"server_{major}")
    admin = Database("postgres", url_of(info, "postgres"))
    yield Place(major, info, admin, make_app)
    for (name,) in admin.run("SELECT datname FROM pg_database WHERE datname ~ '^(kind_|per%)'"):
        admin.run(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
        admin.run(f'DROP DATABASE "{name}" WITH (FORCE)')
    for (name,) in admin.run("SELECT rolname FROM pg_roles WHERE rolname ~ '^kind_'"):
        admin.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


#: What comes back exactly: the drill finds nothing, and neither does plain pg_dump.
KINDS = {
    "settings that checks and views depend on": """
        ALTER DATABASE {database} SET app.tenant = '42';
        ALTER DATABASE {database} SET timezone = 'Asia/Tokyo';
        ALTER DATABASE {database} SET default_text_search_config = 'pg_catalog.german';
        SET app.tenant = '42'; SET timezone = 'Asia/Tokyo';
        SET default_text_search_config = 'pg_catalog.german';
        CREATE TABLE r (t int CHECK (t = current_setting('app.tenant')::int), at timestamptz);
        INSERT INTO r VALUES (42, '2024-01-01 20:00+00');
        CREATE MATERIALIZED VIEW days AS
            SELECT at::date AS day, to_tsvector('die Katzen') AS words FROM r;""",
    "money of another country": """
        ALTER DATABASE {database} SET lc_monetary = 'es_AR.UTF-8'; SET lc_monetary = 'es_AR.UTF-8';
        CREATE TABLE bill (amount money);
        INSERT INTO bill VALUES (12.34::numeric::money), (999.99::numeric::money);
        CREATE MATERIALIZED VIEW summed AS SELECT sum(amount::numeric) FROM bill;""",
    "forms of values": """
        ALTER DATABASE {database} SET bytea_output = 'escape'; SET bytea_output = 'escape';
        ALTER DATABASE {database} SET intervalstyle = 'iso_8601'; SET intervalstyle = 'iso_8601';
        ALTER DATABASE {database} SET datestyle = 'German'; SET datestyle = 'German';
        ALTER DATABASE {database} SET extra_float_digits = 0; SET extra_float_digits = 0;
        CREATE TABLE t AS SELECT '\\x00ff'::bytea AS b, '1 day'::interval AS i,
            '2026-11-05'::date AS d, 0.1::float8 + 0.2 AS f;
        CREATE MATERIALIZED VIEW written AS
            SELECT b::text, i::text AS i, d::text AS d, f::text AS f FROM t;""",
    "short time-outs": """
        CREATE TABLE t AS SELECT generate_series(1, 5000) AS i;
        ALTER DATABASE {database} SET statement_timeout = '200ms';
        ALTER DATABASE {database} SET lock_timeout = '1ms';
        ALTER DATABASE {database} SET idle_in_transaction_session_timeout = '100ms';""",
    "names that are hard to quote": """
        CREATE TABLE "per%cent %s" ("a""b" int, "c'd" text);
        INSERT INTO "per%cent %s" VALUES (1, '%');
        CREATE SCHEMA "a.b"; CREATE SEQUENCE "a.b"."s;--" START 7; SELECT nextval('"a.b"."s;--"');
        CREATE TABLE "COPY x FROM stdin;" (i int); INSERT INTO "COPY x FROM stdin;" VALUES (1);""",
    "read only by default": """
        CREATE TABLE r AS SELECT 1 AS n;
        CREATE PUBLICATION told FOR TABLE r;
        ALTER DATABASE {database} SET default_transaction_read_only = on;""",
    "quotes around all names": """
        ALTER DATABASE {database} SET quote_all_identifiers = on;
        CREATE SCHEMA s; CREATE TABLE s.t (n int PRIMARY KEY); CREATE VIEW s.v AS TABLE s.t;""",
    "extensions that need each other": "CREATE EXTENSION cube; CREATE EXTENSION earthdistance;",
    "no schema public": "DROP SCHEMA public; CREATE SCHEMA app; CREATE TABLE app.t (i int);",
    "a foreign server": """
        CREATE EXTENSION postgres_fdw;
        CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere');
        CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user 'ann');
        CREATE FOREIGN TABLE away (n int) SERVER far;""",
    "its own properties": """
        ALTER DATABASE {database} CONNECTION LIMIT 7;
        ALTER DATABASE {database} IS_TEMPLATE true;
        COMMENT ON DATABASE {database} IS 'it''s 100 % ours';""",
    "what is said of plpgsql": """
        DROP EXTENSION plpgsql CASCADE; CREATE EXTENSION plpgsql;
        COMMENT ON EXTENSION plpgsql IS 'ours';
        CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';""",
    "checks over lists of words": """
        CREATE TABLE t (w varchar(9) CHECK (w IN ('one', 'two''s, (x)')), n int);
        CREATE INDEX ON t (n) WHERE w IN ('one', 'two');
        CREATE VIEW v AS SELECT n FROM t WHERE w IN ('one', 'two');""",
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_such_a_database_comes_back_as_it_was(kind: str, place: Place):
    database = place.made(KINDS[kind])
    tools = toolchain(place.major)
    before = seen(tools, database)
    with place.panel(database).app_context():
        filename = backed_up()
        assert restored(filename, Kind.DRILL).result["differences"] == []
        beside = restored(filename, Kind.BESIDE)
        assert beside.result["differences"] == []
        copy = Database(beside.database, url_of(place.info, beside.database))
        assert seen(tools, copy) == before
        row = restored(filename, Kind.REPLACE)
        assert seen(tools, database) == before
        restores.drop_kept(row.id, by="ann")
        kept = "SELECT count(*) FROM pg_database WHERE datname = %s"
        assert place.admin.run(kept, row.kept) == [(0,)]


#: What only a superuser can create, as it is named.
FOR_SUPERUSERS = {
    "CREATE AGGREGATE listed(anynonarray) (SFUNC = array_agg_transfn, STYPE = internal,"
    " FINALFUNC = array_agg_finalfn, FINALFUNC_EXTRA)": "AGGREGATE listed(anynonarray)",
    "CREATE FUNCTION pid() RETURNS int LANGUAGE internal AS 'pg_backend_pid'": "FUNCTION pid()",
    "CREATE FUNCTION tight() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1'": "FUNCTION tight()",
    "CREATE FUNCTION quiet() RETURNS int LANGUAGE sql SET log_min_messages = 'error'"
    " AS 'SELECT 1'": "FUNCTION quiet()",
    "CREATE CAST (text AS bytea) WITHOUT FUNCTION": "CAST CAST (text AS bytea)",
    "CREATE OPERATOR CLASS mine FOR TYPE int4 USING btree AS OPERATOR 1 <,"
    " FUNCTION 1 btint4cmp(int4, int4)": "OPERATOR CLASS mine",
    "CREATE FOREIGN DATA WRAPPER bare;"
    " CREATE SERVER far FOREIGN DATA WRAPPER bare": "FOREIGN DATA WRAPPER bare",
}


@pytest.mark.parametrize("sql", list(FOR_SUPERUSERS))
def test_what_only_a_superuser_can_create_is_told_before_and_needs_a_word(
    sql: str, one_place: Place
):
    database = one_place.made(sql)
    tools = toolchain(one_place.major)
    before = seen(tools, database)
    with one_place.panel(database).app_context():
        filename = backed_up()
        row = attempt(filename, Kind.DRILL)
        assert row.error_message == "the backup holds objects that only a superuser can create"
        assert FOR_SUPERUSERS[sql] in row.error_detail
        assert "loading" not in row.log
        newest = proofs.list_proofs(backups.get_backup(filename).id)[0]
        assert (newest.level, newest.result) == (Level.RESTORED, Result.NOT_POSSIBLE)
        assert restores.preview_restore(get_source(filename), Kind.BESIDE).powers == "backstop"
        beside = restored(filename, Kind.BESIDE, as_superuser=True)
        assert beside.result["differences"] == []
        copy = Database(beside.database, url_of(one_place.info, beside.database))
        assert seen(tools, copy) == before


def test_what_the_server_s_rights_forbid_says_nothing_of_the_backup(one_place: Place):
    """A function may raise what it likes; the server's code for it counts."""
    database = one_place.made("""
        CREATE FUNCTION refuses() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            IF current_database() LIKE 'backstop%' THEN
                RAISE 'out of luck' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN 1;
        END $$;
        CREATE TABLE t AS SELECT 1 AS n;
        CREATE INDEX ON t ((n + refuses()));""")
    with one_place.panel(database).app_context():
        filename = backed_up()
        row = attempt(filename, Kind.DRILL)
        assert "out of luck" in row.error_detail
        newest = proofs.list_proofs(backups.get_backup(filename).id)[0]
        assert (newest.level, newest.result) == (Level.RESTORED, Result.NOT_POSSIBLE)


def test_a_superuser_loads_what_turned_out_to_need_one(one_place: Place):
    """The hint says so; nothing in the dump did."""
    database = one_place.made("CREATE MATERIALIZED VIEW who AS SELECT usename FROM pg_shadow")
    with one_place.panel(database).app_context():
        filename = backed_up()
        row = attempt(filename, Kind.BESIDE)
        assert "permission denied" in row.error_detail
        assert "--as-superuser" in row.error_hint
        beside = restored(filename, Kind.BESIDE, as_superuser=True)
        assert beside.result["differences"] == []


def test_tablespaces_are_kept_where_they_are_and_named_where_not(
    one_place: Place, server_15: Conninfo
):
    name = f"kind_{secrets.token_hex(4)}"
    inside = "&options=-c%20allow_in_place_tablespaces%3Don"
    Database("postgres", one_place.admin.url + inside).run(f"CREATE TABLESPACE {name} LOCATION ''")
    database = one_place.made(
        f"CREATE TABLE t AS SELECT 1 AS n; CREATE INDEX ON t (n) TABLESPACE {name}"
    )
    before = seen(toolchain(17), database)
    try:
        with one_place.panel(database).app_context():
            filename = backed_up()
            restored(filename, Kind.REPLACE)
            assert seen(toolchain(17), database) == before
        elsewhere = url_of(server_15, "postgres")
        with one_place.app(database_url=database.url, drill_url=elsewhere).app_context():
            row = restored(filename, Kind.DRILL)
            assert row.result["leftOut"] == [f"tablespace {name}"]
    finally:
        for (each,) in one_place.admin.run(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", database.name
        ):
            one_place.admin.run(f'DROP DATABASE "{each}" WITH (FORCE)')
        one_place.admin.run(f"DROP TABLESPACE {name}")


def test_a_percent_sign_in_the_name_of_a_database(one_place: Place):
    database = one_place.made("CREATE TABLE t AS SELECT 1 AS n", "per%cent%20s")
    database.run("COMMENT ON DATABASE \"per%cent%20s\" IS 'hers'")
    with one_place.panel(database).app_context():
        row = restored(backed_up(), Kind.REPLACE)
        assert one_place.admin.run(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            database.name,
        ) == [("hers",)]
        restores.undo_restore(row.id, by="ann")


def test_a_server_without_database_postgres(passable_dir: Path, make_app: Callable[..., Flask]):
    with a_server(17, passable_dir / "without_postgres") as info:
        template = Database("template1", url_of(info, "template1"))
        template.run("CREATE DATABASE shop")
        template.run("DROP DATABASE postgres")
        shop = Database("shop", url_of(info, "shop"))
        shop.run("CREATE TABLE t AS SELECT 1 AS n")
        with make_app(database_url=shop.url).app_context():
            filename = backed_up()
            restores.preview_restore(get_source(filename), Kind.REPLACE)
            restored(filename, Kind.BESIDE)
            restores.undo_restore(restored(filename, Kind.REPLACE).id, by="ann")


def test_an_admin_who_is_no_superuser_restores_what_the_application_owns(place: Place):
    """As on managed servers: the application owns tables in the schema public, and a schema."""
    app, admin = (f"kind_{secrets.token_hex(4)}" for _ in range(2))
    place.admin.run(f"CREATE ROLE {app}")
    place.admin.run(f"CREATE ROLE {admin} LOGIN CREATEDB CREATEROLE PASSWORD 'pw'")
    place.admin.run(f"GRANT {app} TO {admin}")
    database = place.made("")
    place.admin.run(f"ALTER DATABASE {database.name} OWNER TO {app}")
    database.run(f"""
        SET ROLE {app}; CREATE TABLE a (i int); CREATE SCHEMA app;
        CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1';""")
    before = seen(toolchain(place.major), database)
    url = url_of(place.info, database.name, admin, "pw")
    with place.app(database_url=url, drill_url=url, pg_bin_dir=programs(place.major)).app_context():
        filename = backed_up()
        assert restored(filename, Kind.DRILL).result["differences"] == []
        restored(filename, Kind.REPLACE)
    assert seen(toolchain(place.major), database) == before


def test_a_server_that_lets_no_new_role_sign_in_is_told_before_anything_is_done(
    passable_dir: Path, make_app: Callable[..., Flask]
):
    home = passable_dir / "peer"
    with a_server(17, home) as info:
        admin = Database("postgres", url_of(info, "postgres"))
        admin.run("CREATE DATABASE shop")
        rules = home / "data" / "pg_hba.conf"
        rules.write_text("local all backstop scram-sha-256\nlocal all all peer\n")
        admin.run("SELECT pg_reload_conf()")
        with make_app(database_url=url_of(info, "shop")).app_context():
            row = attempt(backed_up(), Kind.REPLACE)
        assert row.error_message == "the role that restores cannot sign in to this server"
        assert "BACKSTOP_RESTORE_URL" in row.error_hint
        assert row.safety_backup is None
        assert admin.run("SELECT rolname FROM pg_roles WHERE rolname LIKE 'backstop_%'") == []


# What is rich in test_rich, and what it says in many ways.
MORE = """
    CREATE DOMAIN word AS varchar(5) DEFAULT 'a' NOT NULL CHECK (VALUE IN ('a', 'b'));
    CREATE TABLE said (
        s varchar(10) CHECK (s IN ('a', 'b', 'it''s (one), two')), t varchar NOT NULL DEFAULT 'x',
        n numeric(10, 2) CHECK (n BETWEEN 1 AND 1000), at timestamptz DEFAULT CURRENT_TIMESTAMP,
        a int[] DEFAULT '{1,2}', j jsonb DEFAULT '{"a": 1}',
        g text GENERATED ALWAYS AS (lower(t)) STORED,
        CHECK ((s, t) IS DISTINCT FROM ('a', 'b')), CHECK (s <> ALL (ARRAY['q', 'r'])));
    CREATE INDEX ON said ((lower(t) || 'x'), (n * 2) DESC NULLS LAST) INCLUDE (at)
        WHERE s IN ('a', 'b');
    CREATE VIEW told AS SELECT s AS x, t, CASE s WHEN 'a' THEN 1 ELSE 2 END AS k
        FROM said WHERE s IN ('a', 'b') AND at > now() - interval '1 day';
    CREATE VIEW joined AS SELECT a.*, b.t AS u FROM said a LEFT JOIN said b USING (s);
    CREATE VIEW counted_by AS SELECT extract(year FROM at) AS y, trim(both FROM t) AS tr,
        string_agg(s, ',' ORDER BY s) FILTER (WHERE n > 1) FROM said
        GROUP BY GROUPING SETS ((at, t), (t));
    CREATE FUNCTION atomic(a int, b int DEFAULT 1 + 1) RETURNS int LANGUAGE sql IMMUTABLE
        BEGIN ATOMIC SELECT a + b; END;
    CREATE FUNCTION among(v varchar) RETURNS bool LANGUAGE sql RETURN v IN ('a', 'b');
    CREATE FUNCTION owner_s() RETURNS int LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = public, pg_temp SET work_mem = '9MB' AS $$ BEGIN RETURN 1; END $$;
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER noted BEFORE UPDATE OF s ON said FOR EACH ROW
        WHEN (OLD.s IS DISTINCT FROM NEW.s AND NEW.s IN ('a', 'b')) EXECUTE FUNCTION noted('x');
    CREATE RULE also AS ON UPDATE TO told WHERE NEW.x IN ('a', 'b')
        DO INSTEAD UPDATE said SET t = NEW.t WHERE s = OLD.x;
    ALTER TABLE said ENABLE ROW LEVEL SECURITY;
    CREATE POLICY few ON said USING (s IN ('a', 'b')) WITH CHECK (t IN ('a') AND n > 0);
    CREATE STATISTICS ext ON (lower(t)), s FROM said;
    CREATE TABLE grand (z int) INHERITS (said);
    CREATE TABLE lists (a int, b varchar CHECK (b IN ('x', 'y'))) PARTITION BY LIST (b);
    CREATE TABLE lists_x PARTITION OF lists FOR VALUES IN ('x');
    CREATE TABLE ranges (r int4range, EXCLUDE USING gist (r WITH &&) WHERE (lower(r) IN (1, 2)));
    INSERT INTO said (s, t, n) VALUES ('a', 'y', 2);
    CREATE MATERIALIZED VIEW kept AS SELECT s, t, n FROM said;
"""


@pytest.fixture
def rich(place: Place) -> Iterator[Database]:
    roles = {name: f"kind_{name}_{secrets.token_hex(3)}" for name in ("ann", "bob", "cid")}
    for role in roles.values():
        place.admin.run(f"CREATE ROLE {role}")
    sql = RICH
    for name, role in roles.items():
        sql = sql.replace(f"{{{name}}}", role)
    database = place.made(sql)
    database.run(f"SET search_path = public; {MORE}")
    yield database
    for (name,) in place.admin.run(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", database.name
    ):
        place.admin.run(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_a_rich_database_comes_back_as_pg_dump_sees_it(rich: Database, place: Place):
    tools = toolchain(place.major)
    before = seen(tools, rich)
    with place.panel(rich).app_context():
        filename = backed_up()
        beside = restored(filename, Kind.BESIDE)
        assert beside.result["differences"] == []
        assert seen(tools, Database(beside.database, url_of(place.info, beside.database))) == before
        rich.run("SET search_path = public; DROP VIEW joined; UPDATE said SET t = 'changed'")
        restored(filename, Kind.REPLACE)
        assert seen(tools, rich) == before


@pytest.mark.parametrize("place", [15, 17], indirect=True)
def test_no_definition_differs_on_a_newer_server(rich: Database, place: Place, server_18: Conninfo):
    """Which prints views in other words."""
    with place.panel(rich).app_context():
        filename = backed_up()
    newer = Database("postgres", url_of(server_18, "postgres"))
    folder = programs(18) if place.major == 15 else None  # it reads no zstd
    chosen = {"database_url": rich.url, "drill_url": newer.url, "pg_bin_dir": folder}
    with place.app(**chosen).app_context():
        row = attempt(filename, Kind.DRILL)
        if place.major == 15:
            assert row.error_message == "this server lacks a role that the dump names"
        roles = [
            name
            for (name,) in place.admin.run(
                "SELECT rolname FROM pg_roles WHERE rolname ~ '^kind_(ann|bob|cid)_'"
            )
        ]
        for role in roles:
            newer.run(f"CREATE ROLE {role}")
        row = restored(filename, Kind.DRILL)
        for role in roles:
            newer.run(f"DROP ROLE {role}")
    assert row.result["differences"] == []
    assert bool(row.result["notCompared"]) is (folder is None)  # without a pg_dump 18
