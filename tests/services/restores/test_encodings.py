"""Databases with encodings and locales of their own come back, with names that are not ASCII."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
from flask import Flask

from app.extensions import writing
from app.models import Kind
from app.postgres.conninfo import Conninfo
from app.postgres.databases import serving
from app.services.backups import service as backups
from app.services.restores import scratch
from tests.conftest import Database, url_of
from tests.servers import toolchain
from tests.services.restores.comparison import seen
from tests.services.restores.conftest import attempt, backed_up, restored

_WORDS = {"LATIN1": "Größe", "EUC_JP": "日本", "SQL_ASCII": "gr\xf6\xdfe"}
_CODECS = {"LATIN1": "latin1", "EUC_JP": "euc_jp", "SQL_ASCII": "latin1"}
_ALL = """
    CREATE ROLE "{role}";
    CREATE SCHEMA "{word}" AUTHORIZATION "{role}";
    CREATE TABLE "{word}"."{word}" (id serial PRIMARY KEY, "{word}" text);
    INSERT INTO "{word}"."{word}" ("{word}") SELECT '{word}' FROM generate_series(1, 7);
    CREATE INDEX "{word} i" ON "{word}"."{word}" ("{word}");
    CREATE TYPE "{word}"."{word} t" AS ENUM ('{word}');
    CREATE VIEW "{word}"."{word} v" AS SELECT "{word}" FROM "{word}"."{word}"
        WHERE "{word}" = '{word}';
    CREATE FUNCTION "{word}"."{word}"("{word}" int) RETURNS text LANGUAGE sql
        AS 'SELECT ''{word}''::text';
    COMMENT ON TABLE "{word}"."{word}" IS '{word}';
    GRANT SELECT ON "{word}"."{word} v" TO "{role}";
    ALTER TABLE "{word}"."{word}" OWNER TO "{role}";
    ALTER DATABASE {name} SET search_path = "{word}", public;
    ALTER DATABASE {name} SET app.word = '{word}';
"""
_OWNER = """
    SELECT pg_get_userbyid(relowner) = '{role}' FROM pg_class
    WHERE relname = '{word}' AND relkind = 'r'
"""


class _Encoded:
    """A database whose statements are bytes in its own encoding."""

    def __init__(self, server: Conninfo, encoding: str) -> None:
        self.name = f"encoded_{secrets.token_hex(4)}"
        self.role, self.encoding = f"{_WORDS[encoding]} {self.name}", encoding
        self.admin = Database("postgres", url_of(server, "postgres"))
        for name in (self.name, f"in_{self.name}"):  # the second to drop the role from
            self.admin.run(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
                " STRATEGY file_copy"
            )
        self.url = url_of(server, self.name)

    def run(self, sql: str, database: str = "") -> list:
        word = _WORDS[self.encoding]
        text = sql.format(word=word, role=self.role, name=self.name)
        with closing(psycopg2.connect(self.url, dbname=database or self.name)) as connection:
            connection.autocommit = True
            connection.set_client_encoding(self.encoding)
            with connection.cursor() as cursor:
                cursor.execute(text.encode(_CODECS[self.encoding]))
                return cursor.fetchall() if cursor.description else []


@pytest.fixture(params=list(_WORDS))
def encoded(request: pytest.FixtureRequest, server: Conninfo) -> Iterator[_Encoded]:
    made = _Encoded(server, request.param)
    made.run(_ALL)
    yield made
    for (name,) in made.admin.run(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", made.name
    ):
        made.admin.run(f'DROP DATABASE "{name}" WITH (FORCE)')
    made.run('DROP ROLE "{role}"', f"in_{made.name}")
    made.admin.run(f"DROP DATABASE in_{made.name} WITH (FORCE)")


def test_names_beyond_ascii_come_back(encoded: _Encoded, make_app: Callable[..., Flask]):
    app = make_app(database_url=encoded.url, drill_url=None, drill_on_live=False)
    with app.app_context():
        filename = backed_up()
        assert restored(filename, Kind.DRILL).result["differences"] == []
        beside = restored(filename, Kind.BESIDE)
        replaced = restored(filename, Kind.REPLACE)
        for row, name in ((beside, beside.database), (replaced, encoded.name)):
            assert (row.result["differences"], row.result["missingRoles"]) == ([], [])
            assert encoded.run('SELECT count(*) FROM "{word} v"', name) == [(7,)]
            assert encoded.run(_OWNER, name) == [(True,)]


@pytest.mark.parametrize("encoded", ["LATIN1"], indirect=True)
@pytest.mark.usefixtures("encoded")
def test_a_role_of_another_encoding_is_in_nobody_s_way(
    shop: Database, make_app: Callable[..., Flask]
):
    """The server shows its name to all databases, and cannot write it in theirs."""
    with make_app(database_url=shop.url).app_context():
        filename = backed_up()
        assert restored(filename, Kind.DRILL).result["missingRoles"] == []
        restored(filename, Kind.REPLACE)


# Locales by ICU


@pytest.fixture
def by_icu(server_15: Conninfo) -> Iterator[Database]:
    """Debian's build knows ICU, unlike the wheels."""
    admin = Database("postgres", url_of(server_15, "postgres"))
    admin.run(
        "CREATE DATABASE by_icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn-true'"
        " LOCALE 'C.UTF-8'"
    )
    database = Database("by_icu", url_of(server_15, "by_icu"))
    database.run("CREATE TABLE t (s text PRIMARY KEY); INSERT INTO t VALUES ('a10'), ('a9')")
    yield database
    for (name,) in admin.run("SELECT datname FROM pg_database WHERE datname LIKE 'by\\_icu%'"):
        admin.run(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_a_locale_by_icu_comes_back(by_icu: Database, make_app: Callable[..., Flask]):
    before = seen(toolchain(15), by_icu)
    with make_app(database_url=by_icu.url, drill_url=None, drill_on_live=False).app_context():
        filename = backed_up()
        assert restored(filename, Kind.DRILL).result["differences"] == []
        assert restored(filename, Kind.REPLACE).result["leftOut"] == []
    assert seen(toolchain(15), by_icu) == before
    assert by_icu.run("SELECT s FROM t ORDER BY s") == [("a9",), ("a10",)]


def test_rules_for_icu_are_kept_or_named(
    by_icu: Database, server: Conninfo, make_app: Callable[..., Flask]
):
    """They are known from 16 on; of no such server a build with ICU is here."""
    with make_app(database_url=by_icu.url).app_context():
        filename = backed_up()
        with writing():
            backup = backups.get_backup(filename)
            properties = backup.contents["properties"] | {"icuRules": "&a < g"}
            backup.contents = backup.contents | {"properties": properties}
        row = restored(filename, Kind.BESIDE)
        assert row.result["leftOut"] == ["ICU rules"]
    with make_app(database_url=url_of(server, "postgres")).app_context():
        row = attempt(filename, Kind.BESIDE)
        assert row.error_message == "this server lacks the locale or encoding of the backup"
        assert "ICU" in row.error_detail
        with serving(server, application_name="test") as there:
            options = scratch.database_options(backups.get_backup(filename).contents, there)
        assert options["ICU_RULES"] == "&a < g"
