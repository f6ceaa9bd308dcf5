"""What measures share: a real server, a database of a chosen size, a panel, the bare tools."""

import os
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from app.postgres.conninfo import Conninfo, client_environment, url_of_neighbour
from app.postgres.databases import at_database
from app.postgres.embedded import EmbeddedServer
from app.postgres.tools import Toolchain, Version, choose_toolchain, find_toolchains
from bench.harness import Taken, timed
from bench.panel import Home, Panel

SMALL = "ecom"  # the sample, of a few megabytes
LARGE = "shop"
MANY = "many_tables"

#: The four pairs of tables have so much of all rows.
_SHARES = (0.4, 0.3, 0.2, 0.1)
_AT_ONCE = 200  # tables of one transaction, each of which is locked
_ROWS = 3_300  # of both tables of a pair, for a MiB with indexes

_TABLES = """
    CREATE TABLE bench.items_{n} AS
        SELECT n AS id, md5(n::text) AS code,
               md5((n * 7)::text) || ' lorem ipsum dolor sit amet ' || n % 1000 AS text,
               (n % 100000) * 0.01 AS price, timestamp '2026-01-01' + n * interval '1 s' AS at
        FROM generate_series(1, {rows}) n;
    CREATE TABLE bench.orders_{n} AS
        SELECT n AS id, n % 50000 AS customer, 'pending shipped done ' || n % 17 AS state,
               jsonb_build_object('a', n % 100, 'b', md5((n % 1000)::text)) AS extra
        FROM generate_series(1, {rows}) n;
    CREATE INDEX ON bench.items_{n} (id);
    CREATE INDEX ON bench.orders_{n} (id);
"""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    megabytes: int = 1000  # MiB of the large database
    rounds: int = 5
    tables: int = 5_000  # of a database with many small ones
    backups: int = 100_000  # rows of a large catalogue
    databases: int = 200
    window: float = 10  # seconds for which clients ask
    is_quick: bool = False


QUICK = Scale(
    megabytes=30, rounds=3, tables=200, backups=2_000, databases=20, window=2, is_quick=True
)


class World:
    """Everything is made when it is first used, and ends with the stack."""

    def __init__(self, folder: Path, scale: Scale, stack: ExitStack) -> None:
        self.folder, self.scale, self._stack = folder, scale, stack

    @cached_property
    def server(self) -> Conninfo:
        """A server of its own, with the sample."""
        embedded = EmbeddedServer(self.folder / "server")
        self._stack.enter_context(embedded.used())
        return embedded.conninfo()

    @cached_property
    def version(self) -> Version:
        with closing(psycopg2.connect(self.url("postgres"))) as connection:
            return Version.of_number(connection.server_version)

    @cached_property
    def tools(self) -> Toolchain:
        return choose_toolchain(find_toolchains(), self.version)

    @cached_property
    def large(self) -> Conninfo:
        """The database of the chosen size."""
        self.run("postgres", f"CREATE DATABASE {LARGE}")
        self.run(LARGE, "CREATE SCHEMA bench")
        for n, share in enumerate(_SHARES, 1):
            rows = max(1, int(self.scale.megabytes * _ROWS * share))
            self.run(LARGE, _TABLES.format(n=n, rows=rows))
        self.run(LARGE, "VACUUM ANALYZE")
        self.run(LARGE, "CHECKPOINT")
        return at_database(self.server, LARGE)

    @cached_property
    def small(self) -> Conninfo:
        return at_database(self.server, SMALL)

    @cached_property
    def many_tables(self) -> Conninfo:
        """A database of so many small tables."""
        self.run("postgres", f"CREATE DATABASE {MANY}")
        for start in range(0, self.scale.tables, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, self.scale.tables))
            made = (f"CREATE TABLE many_{n} AS SELECT {n} AS id, 'one' AS text" for n in numbers)
            self.run(MANY, ";".join(made))
        self.run(MANY, "VACUUM ANALYZE")
        return at_database(self.server, MANY)

    @cached_property
    def home(self) -> Home:
        return self.new_home("home", self.large)

    @cached_property
    def panel(self) -> Panel:
        """A panel that guards the large database."""
        return self._stack.enter_context(self.home.panel())

    @cached_property
    def backup(self) -> dict[str, Any]:
        """The row of a backup of the large database, which stays."""
        return self.panel.back_up()

    def new_home(self, name: str, info: Conninfo, **settings: str) -> Home:
        return Home(self.folder / name, self.url(info.database), more=settings)

    def run(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        with closing(self.connected(database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def connected(self, database: str) -> Connection:
        connection = psycopg2.connect(self.url(database))
        connection.autocommit = True
        return connection

    def url(self, database: str) -> str:
        """It contains the password."""
        return url_of_neighbour(self.server, database)

    # The bare tools

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """For programs that connect to the server."""
        given = client_environment(self.server, self.folder / "private")
        made = os.environ | self._stack.enter_context(given)
        return {name: value for name, value in made.items() if value is not None}

    def pg_dump(self, info: Conninfo, *options: str, through: str = "") -> Taken:
        """A bare pg_dump into a durable file, perhaps through another program."""
        target = self.folder / "bare"
        argv = [str(self.tools.pg_dump), "-w", "-d", info.dsn(), *options]
        target.unlink(missing_ok=True)
        with timed() as taken:
            if through:
                with target.open("wb") as file:
                    _piped(argv, through.split(), self.environment, file.fileno())
            else:
                _run([*argv, "-f", str(target)], self.environment)
            _run(["sync", str(target)], self.environment)
        return taken | {"MB": target.stat().st_size / 1e6}

    def pg_restore(self, dump: Path, database: str, *options: str) -> Taken:
        """A bare pg_restore; errors of single objects are ignored, as it does itself."""
        target = at_database(self.server, database).dsn()
        argv = [str(self.tools.pg_restore), *options, "-d", target, str(dump)]
        with timed() as taken:
            _run(argv, self.environment, check="-c" not in options)
        return taken


def _run(argv: list[str], environment: Mapping[str, str], *, check: bool = True) -> None:
    subprocess.run(argv, env=environment, check=check, stderr=subprocess.DEVNULL)


def _piped(
    argv: list[str], through: list[str], environment: Mapping[str, str], target: int
) -> None:
    with subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as source:
        subprocess.run(through, stdin=source.stdout, stdout=target, check=True)
    assert source.returncode == 0, argv[0]
