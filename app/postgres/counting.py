"""Take the census of a snapshot and count its rows in a thread, while pg_dump runs."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from app.errors import AppError
from app.postgres.census import STATEMENTS, Census
from app.postgres.connection import OWN_PATH, connect, quoted
from app.postgres.locking import OWN_SETTINGS, watched
from app.postgres.snapshot import Snapshot, Table

_LAST_COUNT = 1.0  # seconds after the end of pg_dump, while the tables are still locked
_TICK = 0.02  # seconds
_BATCH = 100  # tables until their locks are released

# A table that somebody wants to change is not counted: without waiting there is no
# deadlock.
_NEVER_WAIT = "SET LOCAL lock_timeout = 1; SAVEPOINT counting"

# The cheapest column of each table to send: if possible none that is stored out of line
# or has a type of a user.
_NARROWEST = """
    SELECT DISTINCT ON (oid) oid::bigint, attname FROM (
        SELECT a.attrelid AS oid, a.attname, a.attnum, a.atttypid, a.attlen, a.attstorage,
               max(a.attlen) OVER (PARTITION BY a.attrelid) AS widest, n.nspname, c.relname
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
          AND a.attgenerated = ''
    ) columns
    ORDER BY oid, attlen < 0, atttypid >= 16384, attlen, attstorage IN ('e', 'x'),
             CASE WHEN widest < 0 THEN (
                 SELECT min(avg_width) FROM pg_stats s
                 WHERE (s.schemaname, s.tablename, s.attname) = (nspname, relname, columns.attname)
             ) END, attnum
"""


class Counting:
    """The census and the row counts of a snapshot. Read them after `finish`."""

    def __init__(self, snapshot: Snapshot, tables: Iterable[Table], name: str) -> None:
        self._snapshot, self._tables, self._name = snapshot, list(tables), name
        self._connection: Connection | None = None
        self._has_census, self._is_over = threading.Event(), threading.Event()
        self._error: AppError | None = None
        self._thread = threading.Thread(target=self._run, name="counting", daemon=True)
        self.census: Census = {}
        self.rows: dict[int, int] = {}  # of each table that was counted, by oid

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raise the error of the thread, if there is one."""
        if self._error is not None:
            raise self._error

    def finish(self, on_wait: Callable[[], None]) -> None:
        """Wait for the census, and a moment for the rows. Raises the error of the thread.

        The tables must stay locked until it returns.
        """
        while not self._has_census.wait(_TICK):
            on_wait()
        deadline = time.monotonic() + _LAST_COUNT
        while self._thread.is_alive() and time.monotonic() < deadline:
            on_wait()
            self._thread.join(_TICK)
        self.stop()
        self.check()

    def stop(self) -> None:
        """Stop counting; the server notices when it sends more rows."""
        self._is_over.set()
        if self._thread.is_alive() and self._connection is not None:
            with suppress(OSError, psycopg2.Error):
                line = socket.socket(fileno=os.dup(self._connection.fileno()))
                with line:
                    line.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        try:
            with (
                watched("the objects of the database cannot be counted", self._snapshot.info),
                connect(self._snapshot.info, application_name=self._name) as connection,
            ):
                self._connection = connection
                connection.autocommit = True
                with closing(connection.cursor()) as cursor:
                    self._read(cursor)
        except AppError as error:
            if not self._has_census.is_set():
                self._error = error
        finally:
            self._has_census.set()

    def _read(self, cursor: Cursor) -> None:
        cursor.execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
            f" SET TRANSACTION SNAPSHOT '{self._snapshot.id}'; {OWN_PATH}"
        )
        cursor.execute(OWN_SETTINGS)
        for part, sql in STATEMENTS.items():
            cursor.execute(sql)
            row = cursor.fetchone()
            self.census[part] = row[0] if row else None
        self._has_census.set()
        if self._tables:
            cursor.execute(_NARROWEST, ([table["oid"] for table in self._tables],))
            columns = dict(cursor.fetchall())
            cursor.execute(_NEVER_WAIT)
            self._count(cursor, columns)

    def _count(self, cursor: Cursor, columns: dict[int, str]) -> None:
        """Read each table as pg_dump does: COPY plans nothing, so no user's function runs."""
        with Path(os.devnull).open("wb", buffering=1024**2) as nowhere:
            for number, table in enumerate(self._tables, start=1):
                if self._is_over.is_set():
                    return
                column = columns.get(table["oid"])
                named = f"{quoted(table['schema'])}.{quoted(table['name'])}"
                listed = f" ({quoted(column)})" if column is not None else ""
                try:
                    cursor.copy_expert(f"COPY {named}{listed} TO STDOUT", nowhere)
                except psycopg2.Error as error:
                    if error.pgcode is None:  # the connection is gone
                        raise
                    cursor.execute("ROLLBACK TO SAVEPOINT counting")
                else:
                    self.rows[table["oid"]] = cursor.rowcount
                    if number % _BATCH == 0:
                        cursor.execute("ROLLBACK TO SAVEPOINT counting")


@contextmanager
def counting(snapshot: Snapshot, tables: Iterable[Table], name: str) -> Iterator[Counting]:
    """Begin to take the census and to count these tables, in a session of that name.

    Both see the snapshot. A table that somebody wants to change, or that is not counted
    in time, has no entry in `rows`.
    """
    counts = Counting(snapshot, tables, name)
    counts.start()
    try:
        yield counts
    finally:
        counts.stop()
