"""A database with everything in it comes back as it was: objects, owners, grants, settings."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from app.models import Kind
from app.postgres.census import counting, reading
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.databases import serving
from app.postgres.differences import differences
from app.services.backups import service as backups
from tests.conftest import Database, url_of
from tests.services.restores.conftest import backed_up, restored

RICH = """
    CREATE EXTENSION pg_trgm;
    CREATE EXTENSION hstore;
    CREATE SCHEMA extra AUTHORIZATION {ann};
    CREATE SCHEMA "a b";
    CREATE EXTENSION citext SCHEMA extra;
    CREATE SCHEMA apart;
    CREATE EXTENSION pg_buffercache SCHEMA apart;
    COMMENT ON EXTENSION pg_buffercache IS 'looked at';

    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TYPE pair AS (a int, b text);
    CREATE TYPE span AS RANGE (subtype = float8);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    ALTER TYPE mood OWNER TO {ann};
    ALTER TYPE pair OWNER TO {bob};
    ALTER DOMAIN positive OWNER TO {ann};
    GRANT USAGE ON TYPE mood TO {bob} WITH GRANT OPTION;
    REVOKE USAGE ON TYPE pair FROM PUBLIC;

    CREATE TABLE measures (id int GENERATED ALWAYS AS IDENTITY, at date, value span, m mood,
                           PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE measures_24 PARTITION OF measures FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE measures_25 PARTITION OF measures FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    INSERT INTO measures (at, value, m)
        SELECT '2024-06-01'::date + n, span(n, n + 1), 'ok' FROM generate_series(1, 400) n;
    ALTER TABLE measures OWNER TO {ann};
    ALTER TABLE measures_24 OWNER TO {bob};
    CREATE TABLE parents (id serial PRIMARY KEY, p pair, q positive DEFAULT 1);
    CREATE TABLE children (more text) INHERITS (parents);
    INSERT INTO parents (p) VALUES ((1, 'x')), ((2, 'y'));
    INSERT INTO children (p, more) VALUES ((3, 'z'), 'more');
    ALTER TABLE parents OWNER TO {bob};
    ALTER TABLE children OWNER TO {ann};
    CREATE SEQUENCE alone START 17 INCREMENT 3;
    SELECT nextval('alone'), nextval('alone');
    ALTER SEQUENCE alone OWNER TO {ann};
    GRANT USAGE ON SEQUENCE alone TO {bob};
    CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS id;
    CREATE TABLE "a b"."c ""d" ("e f" int, g text COLLATE "C");
    ALTER SCHEMA "a b" OWNER TO {bob};
    ALTER TABLE "a b"."c ""d" OWNER TO {ann};

    CREATE FUNCTION adds(int, int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
    CREATE FUNCTION adds(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE PROCEDURE does(INOUT x int) LANGUAGE plpgsql AS 'BEGIN x := 1; END';
    CREATE AGGREGATE together(int) (SFUNC = int4pl, STYPE = int4, INITCOND = '0');
    CREATE AGGREGATE counted(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
    ALTER FUNCTION adds(int, int) OWNER TO {ann};
    ALTER FUNCTION adds(text, text[]) OWNER TO {bob};
    ALTER PROCEDURE does(int) OWNER TO {bob};
    ALTER AGGREGATE together(int) OWNER TO {ann};
    ALTER AGGREGATE counted(*) OWNER TO {ann};
    REVOKE ALL ON FUNCTION adds(int, int) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION adds(int, int) TO {bob};
    REVOKE ALL ON FUNCTION adds(text, text[]) FROM PUBLIC;
    GRANT ALL ON FUNCTION adds(text, text[]) TO PUBLIC;

    CREATE VIEW seen AS SELECT * FROM parents WHERE id > 1 WITH CHECK OPTION;
    ALTER VIEW seen OWNER TO {bob};
    CREATE MATERIALIZED VIEW summed AS SELECT m, count(*) FROM measures GROUP BY m;
    CREATE UNIQUE INDEX ON summed (m);
    ALTER MATERIALIZED VIEW summed OWNER TO {ann};
    CREATE INDEX trigrams ON children USING gin (more gin_trgm_ops) WHERE adds(id, 1) > 0;
    CREATE RULE nothing AS ON DELETE TO children DO INSTEAD NOTHING;
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER stamped BEFORE UPDATE ON parents FOR EACH ROW EXECUTE FUNCTION stamp();
    ALTER TABLE parents DISABLE TRIGGER stamped;
    ALTER TABLE children ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON children TO {bob} USING (id > 0);
    CREATE STATISTICS linked (dependencies) ON id, q FROM parents;
    ALTER STATISTICS linked OWNER TO {bob};
    CREATE OPERATOR @+ (LEFTARG = int, RIGHTARG = int, FUNCTION = adds);
    ALTER OPERATOR @+ (int, int) OWNER TO {ann};
    CREATE COLLATION german (LOCALE = 'C');
    ALTER COLLATION german OWNER TO {bob};
    CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
    ALTER TEXT SEARCH CONFIGURATION words OWNER TO {ann};
    CREATE TEXT SEARCH DICTIONARY few (TEMPLATE = simple);
    ALTER TEXT SEARCH DICTIONARY few OWNER TO {bob};
    CREATE CAST (pair AS text) WITH INOUT;

    GRANT SELECT (id), UPDATE (p) ON parents TO {ann};
    GRANT SELECT ON parents TO {ann} WITH GRANT OPTION;
    SET ROLE {ann};
    GRANT SELECT ON parents TO {cid};
    RESET ROLE;
    GRANT INSERT ON measures TO PUBLIC;
    REVOKE UPDATE ON measures FROM {ann};
    GRANT USAGE, CREATE ON SCHEMA extra TO {bob};
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    GRANT USAGE ON SCHEMA public TO {ann}, {bob};
    ALTER DEFAULT PRIVILEGES FOR ROLE {ann} IN SCHEMA public GRANT SELECT ON TABLES TO {bob};
    ALTER DEFAULT PRIVILEGES FOR ROLE {bob} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    SELECT lo_from_bytea(4711, 'mine'), lo_from_bytea(4712, 'hers'), lo_from_bytea(4713, 'his');
    ALTER LARGE OBJECT 4712 OWNER TO {ann};
    ALTER LARGE OBJECT 4713 OWNER TO {bob};
    GRANT SELECT ON LARGE OBJECT 4713 TO {ann};

    COMMENT ON TABLE parents IS 'it''s a table';
    COMMENT ON COLUMN parents.p IS 'a pair';
    COMMENT ON LARGE OBJECT 4712 IS 'large';
    COMMENT ON SCHEMA public IS 'ours';
    CREATE FUNCTION noticed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    ALTER FUNCTION noticed() OWNER TO {ann};
    CREATE EVENT TRIGGER notices ON ddl_command_end EXECUTE FUNCTION noticed();
    ALTER EVENT TRIGGER notices DISABLE;
    COMMENT ON EVENT TRIGGER notices IS 'an event trigger';
    CREATE PUBLICATION told FOR TABLE parents, TABLES IN SCHEMA "a b";
    COMMENT ON PUBLICATION told IS 'a publication';
    ALTER PUBLICATION told OWNER TO {ann};

    ALTER DATABASE {database} SET search_path = 'a b', public;
    ALTER DATABASE {database} SET datestyle = 'ISO, DMY';
    ALTER DATABASE {database} SET "shop.setting" = 'it''s, "so"\\';
    ALTER DATABASE {database} SET default_transaction_read_only = off;
    ALTER ROLE {ann} IN DATABASE {database} SET role = {bob};
    ALTER ROLE {ann} IN DATABASE {database} SET work_mem = '7MB';
    ALTER ROLE {ann} IN DATABASE {database} SET search_path = '$user', "x,y";
    REVOKE CONNECT ON DATABASE {database} FROM PUBLIC;
    GRANT CONNECT ON DATABASE {database} TO {bob} WITH GRANT OPTION;
    COMMENT ON DATABASE {database} IS 'the shop''s database';
    ALTER DATABASE {database} OWNER TO {ann};
"""

_OID = 16384  # from here on they are the users'
_OURS = """relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_'
           AND nspname <> 'information_schema')"""

#: What is asked of both databases, without our own census.
SIDES = {
    "relations": f"""
        SELECT oid::regclass, relkind, relowner::regrole, relacl::text[] FROM pg_class
        WHERE {_OURS}""",
    "columns": f"""
        SELECT attrelid::regclass, attname, atttypid::regtype, attacl::text[], attidentity
        FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        WHERE attnum > 0 AND relkind <> 'i' AND {_OURS}""",
    "functions": """
        SELECT p.oid::regprocedure, proowner::regrole,
               (SELECT array_agg(x::text ORDER BY x::text)
                FROM unnest(COALESCE(proacl, acldefault('f', proowner))) x)
        FROM pg_proc p WHERE pronamespace::regnamespace::text !~ '^(pg_|information)'""",
    "types": f"SELECT oid::regtype, typowner::regrole, typacl FROM pg_type WHERE oid >= {_OID}"
    " AND typnamespace::regnamespace::text !~ '^pg_'",
    "schemas": "SELECT nspname, nspowner::regrole, nspacl FROM pg_namespace"
    " WHERE nspname !~ '^pg_'",
    "large objects": """
        SELECT oid, lomowner::regrole, lomacl, md5(lo_get(oid)),
               obj_description(oid, 'pg_largeobject')
        FROM pg_largeobject_metadata""",
    "default privileges": """
        SELECT defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl
        FROM pg_default_acl""",
    "operators": f"SELECT oid::regoperator, oprowner::regrole FROM pg_operator WHERE oid >= {_OID}",
    "collations": f"SELECT collname, collowner::regrole FROM pg_collation WHERE oid >= {_OID}",
    "configurations": f"SELECT cfgname, cfgowner::regrole FROM pg_ts_config WHERE oid >= {_OID}",
    "dictionaries": f"SELECT dictname, dictowner::regrole FROM pg_ts_dict WHERE oid >= {_OID}",
    "statistics": "SELECT stxname, stxowner::regrole, pg_get_statisticsobjdef(oid)"
    " FROM pg_statistic_ext",
    "casts": f"SELECT castsource::regtype, casttarget::regtype FROM pg_cast WHERE oid >= {_OID}",
    "event triggers": "SELECT evtname, evtevent, evtowner::regrole, evtenabled, evtfoid::regproc"
    " FROM pg_event_trigger",
    "publications": "SELECT pubname, pubowner::regrole FROM pg_publication",
    "published": "SELECT pubname, schemaname, tablename FROM pg_publication_tables",
    "extensions": "SELECT extname, extversion, extnamespace::regnamespace FROM pg_extension",
    "triggers": "SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger"
    " WHERE NOT tgisinternal",
    "policies": "SELECT * FROM pg_policies",
    "rules": "SELECT schemaname, tablename, rulename FROM pg_rules"
    " WHERE schemaname <> 'pg_catalog'",
    "comments": """
        SELECT o.type, o.identity, d.description FROM pg_description d,
               pg_identify_object(classoid, objoid, objsubid) o
        WHERE objoid >= 16384 OR d.classoid = 'pg_namespace'::regclass""",
    "settings": """
        SELECT setrole::regrole::text, (SELECT array_agg(x ORDER BY x) FROM unnest(setconfig) x)
        FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())""",
    "database": """
        SELECT datdba::regrole, datcollate, encoding,
               (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x),
               shobj_description(oid, 'pg_database')
        FROM pg_database WHERE datname = current_database()""",
    "sequences": "SELECT * FROM pg_sequences",
    "rows": """
        SELECT relname, (xpath('/row/c/text()', query_to_xml(
            'SELECT count(*) AS c FROM ONLY ' || oid::regclass, true, false, '')))[1]::text
        FROM pg_class WHERE relkind IN ('r', 'm')
        AND relnamespace::regnamespace::text !~ '^(pg_|information)'""",
}


@dataclass(frozen=True)
class Rich:
    """A rich database, and the roles that have parts of it."""

    database: Database
    roles: dict[str, str]

    def run(self, sql: str) -> None:
        names = self.roles | {"database": f'"{self.database.name}"'}
        for name, value in names.items():
            sql = sql.replace(f"{{{name}}}", value)
        self.database.run(sql)


def sides(database: Database) -> dict[str, Any]:
    """All that is told of a database, in one session as itself and not as a setting says."""
    own = "SET search_path = pg_catalog; SET datestyle = 'ISO'; "
    told = {}
    for name, sql in SIDES.items():
        told[name] = sorted(map(repr, database.run(f"RESET ROLE; SET ROLE backstop; {own} {sql}")))
    return told


@pytest.fixture
def rich(new_database: Callable[..., Database], server: Conninfo) -> Iterator[Rich]:
    database = new_database()
    admin = Database("postgres", url_of(server, "postgres"))
    roles = {name: f"{name}_{secrets.token_hex(4)}" for name in ("ann", "bob", "cid")}
    for role in roles.values():
        admin.run(f"CREATE ROLE {role}")
    made = Rich(database, roles)
    made.run(RICH)
    yield made
    for (name,) in admin.run(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", database.name
    ):
        admin.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    for role in roles.values():
        admin.run(f"DROP ROLE {role}")


@pytest.fixture
def panel_of_rich(rich: Rich, make_app: Callable[..., Flask]) -> Iterator[None]:
    with make_app(database_url=rich.database.url).app_context():
        yield


@pytest.mark.usefixtures("panel_of_rich")
def test_a_rich_database_comes_back_beside_as_it_was(rich: Rich, server: Conninfo):
    before = sides(rich.database)
    row = restored(backed_up(), Kind.BESIDE)
    assert row.result["differences"] == []
    assert row.result["missingRoles"] == []
    after = sides(Database(row.database, url_of(server, row.database)))
    for side, told in before.items():
        assert after[side] == told, side


_BY_HAND = {
    "GRANT DELETE ON parents TO {cid}": "grants on table public.parents",
    "ALTER VIEW seen OWNER TO {ann}": "owner of view public.seen",
    "REVOKE SELECT (id) ON parents FROM {ann}": "grants on table column public.parents.id",
    "GRANT SELECT (q) ON parents TO {cid}": "grants on table column public.parents.q",
    "ALTER LARGE OBJECT 4712 OWNER TO {cid}": "large objects of {cid}",
    "ALTER STATISTICS linked OWNER TO {ann}": "owner of statistics object public.linked",
    "DROP VIEW seen; CREATE VIEW other AS SELECT 1": "view public.seen is missing",
    "CREATE SCHEMA more": "schema more was not in the backup",
    "DROP TRIGGER stamped ON parents": "triggers: 1 expected, 0 found",
    "DROP INDEX trigrams": "indexes: 6 expected, 5 found",
    "ALTER DATABASE {copy} SET work_mem = '9MB'": "setting work_mem of the database",
    "ALTER DATABASE {copy} RESET datestyle": "setting DateStyle of the database is missing",
    "TRUNCATE children": "rows of public.children: 1 expected, 0 found",
    "SELECT nextval('alone')": "value of public.alone",
}


@pytest.mark.usefixtures("panel_of_rich")
def test_what_was_changed_by_hand_is_told_by_its_name(rich: Rich, server: Conninfo):
    made = backups.get_backup(backed_up())
    row = restored(made.filename, Kind.BESIDE)
    copy = Database(row.database, url_of(server, row.database))
    expected = made.contents
    by_hand = Rich(copy, rich.roles | {"copy": f'"{copy.name}"'})

    def told() -> list[str]:
        with serving(parse_url(copy.url), application_name="test") as asked:
            found = asked.census("objects", "owned", "settings")
            for part, statement, word in (
                ("tables", counting, "rows"),
                ("sequences", reading, "value"),
            ):
                named = [
                    (at, each["schema"], each["name"]) for at, each in enumerate(expected[part])
                ]
                values = {key: value for key, *value in asked.rows(statement(named))}
                found[part] = [
                    each | {word: values[at] if word == "value" else values[at][0]}
                    for at, each in enumerate(expected[part])
                ]
        return differences(expected, found)

    assert told() == []
    for change, words in _BY_HAND.items():
        before = told()
        by_hand.run(change)
        new = [each for each in told() if each not in before]
        expected_words = words.replace("{cid}", rich.roles["cid"])
        assert any(each.startswith(expected_words) for each in new), (change, new)


@pytest.mark.usefixtures("panel_of_rich")
def test_a_rich_database_is_replaced_as_it_was(rich: Rich):
    before = sides(rich.database)
    filename = backed_up()
    rich.run("DROP VIEW seen; TRUNCATE children; ALTER TABLE parents OWNER TO {cid}")
    restored(filename, Kind.REPLACE)
    after = sides(rich.database)
    for side, told in before.items():
        assert after[side] == told, side


@pytest.mark.usefixtures("panel_of_rich")
def test_some_tables_of_it_come_with_owners_and_grants(rich: Rich, server: Conninfo):
    chosen = [("public", "children"), ("public", "measures"), ("public", "parents")]
    row = restored(backed_up(), Kind.BESIDE, tables=chosen)
    assert row.result["differences"] == []
    assert row.result["missingRoles"] == []
    before, after = (
        sides(rich.database),
        sides(Database(row.database, url_of(server, row.database))),
    )
    assert {each for each in before["relations"] if each not in after["relations"]} == {
        each
        for each in before["relations"]
        if any(name in each for name in ("alone", "seen", "summed", "fleeting", 'c ""d'))
    }
    for side in ("policies", "rules", "triggers", "statistics", "database", "settings"):
        assert after[side] == before[side], side
    assert set(after["sequences"]) < set(before["sequences"])
    assert set(after["columns"]) < set(before["columns"])
