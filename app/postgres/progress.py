"""The progress of a dump: from the server's figures, else from pg_dump's log."""

import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import psycopg2

from app.errors import ConnectError
from app.postgres.connection import OWN_PATH, Rows, Session, starting_session
from app.postgres.conninfo import Conninfo

_LARGE_OBJECTS = 2613  # oid of pg_largeobject (src/include/catalog/pg_largeobject.h)
PAGE = 8192  # bytes of a page of a table, as PostgreSQL is built
_ASK_EVERY = 1.0  # seconds between two queries

_OWN_LINE = "pg_dump: "
_TABLE_LINE = re.compile(r'pg_dump: dumping contents of table "(.*)"')
_FINISHED_LINE = re.compile(r"pg_dump: finished item \d+ TABLE DATA (.*)")  # of a parallel dump
_LARGE_OBJECT_LINE = re.compile(r"pg_dump: saving large objects")

# The real sizes: the catalogue's pages are those of the last ANALYZE. A locked table
# would block the query.
_NO_WAITING = "SELECT pg_catalog.set_config('lock_timeout', '1s', false)"
_SIZES = f"""
    {OWN_PATH}
    SELECT oid::bigint, pg_catalog.pg_table_size(oid) FROM pg_catalog.pg_class
    WHERE oid = ANY (%s::oid[])
"""  # noqa: S608 - our own text
_COPY = f"""
    {OWN_PATH}
    SELECT p.relid::bigint, p.tuples_processed, p.bytes_processed
    FROM pg_catalog.pg_stat_progress_copy p JOIN pg_catalog.pg_stat_activity a USING (pid)
    WHERE a.application_name = %s AND a.datname = pg_catalog.current_database()
"""  # noqa: S608 - our own text


@dataclass
class Table:
    """A table whose data is dumped."""

    oid: int
    name: str  # "schema.table" as pg_dump writes it, unquoted
    size: int  # bytes
    rows: float  # the server's estimate; below 1: none


class DumpProgress:
    """The share of a dump that is done, by size, and the tables that are being copied."""

    def __init__(self, tables: list[Table], jobs: int = 1) -> None:
        self._jobs = jobs
        self.has_begun = False  # pg_dump has printed something
        self.oids = [*(table.oid for table in tables), _LARGE_OBJECTS]
        self.written = 0  # bytes of the dump so far
        self._written_before = 0  # at the start of the large objects
        self._tables = {table.oid: table for table in tables}
        self._by_name = {table.name: table.oid for table in tables}
        self._tables[_LARGE_OBJECTS] = Table(_LARGE_OBJECTS, "large objects", 0, 0)
        self._seen: set[int] = set()
        self._seen_size = 0
        self._current: dict[int, float] = {}  # by oid: which share of it is done
        self._fraction = 0.0
        self._total = sum(map(_weight, self._tables.values()))
        self.moved = 0  # rows copied of the current tables; it changes while the dump is alive

    @property
    def total(self) -> int:
        """The number of tables."""
        return len(self._tables) - 1

    @property
    def done(self) -> int:
        """The number of tables that are done."""
        return len(self._seen - self._current.keys() - {_LARGE_OBJECTS})

    @property
    def table(self) -> str:
        """The current table, or several; empty without one."""
        return ", ".join(self._tables[oid].name for oid in self._current)

    @property
    def fraction(self) -> float:
        """The share of the dump that is done, from 0 to 1; it never decreases."""
        missing = sum(
            _weight(self._tables[oid]) * (1 - share) for oid, share in self._current.items()
        )
        self._fraction = max(self._fraction, min((self._seen_size - missing) / self._total, 1))
        return self._fraction

    def heard(self, line: str) -> None:
        """Take a line of pg_dump: it names each table at its start, in parallel also at its end."""
        self.has_begun |= line.startswith(_OWN_LINE)  # the command line comes before it runs
        if match := _TABLE_LINE.match(line):
            self._turn_to(self._by_name.get(match[1]))
        elif match := _FINISHED_LINE.match(line):  # without the schema
            ended = (
                oid for oid in self._current if self._tables[oid].name.endswith("." + match[1])
            )
            self._current.pop(next(ended, 0), None)
        elif _LARGE_OBJECT_LINE.match(line):
            self._turn_to(_LARGE_OBJECTS)

    def saw(self, copied: Rows) -> None:
        """Take the server's figures: oid, rows and bytes of each table that is being copied."""
        self.moved = sum(rows for _, rows, _ in copied)
        for oid, rows, size in copied:
            self._turn_to(oid)
            if oid in self._current:
                expected = self._tables[oid].rows
                share = rows / expected if expected >= 1 else size / _weight(self._tables[oid])
                self._current[oid] = min(share, 1.0)

    def wrote(self, size: int) -> None:
        """Take the size of the dump so far, the only figure about large objects.

        They are compressed, so their share is underestimated.
        """
        self.written = size
        if _LARGE_OBJECTS in self._current:
            share = (size - self._written_before) / _weight(self._tables[_LARGE_OBJECTS])
            self._current[_LARGE_OBJECTS] = max(self._current[_LARGE_OBJECTS], min(share, 1.0))

    def weigh(self, sizes: Rows) -> None:
        """Take the real sizes of tables: pairs of oid and bytes."""
        for oid, size in sizes:
            if oid in self._tables and size is not None:
                self._tables[oid].size = size
        self._total = sum(map(_weight, self._tables.values()))
        self._seen_size = sum(_weight(self._tables[oid]) for oid in self._seen)

    def _end(self, name: str) -> None:
        ended = (oid for oid in self._current if self._tables[oid].name.endswith(name))
        self._current.pop(next(ended, 0), None)

    def _turn_to(self, oid: int | None) -> None:
        if oid is None or oid in self._seen or oid not in self._tables:
            return
        self._seen.add(oid)
        self._seen_size += _weight(self._tables[oid])
        if self._jobs == 1:  # so the table before is complete
            self._current.clear()
        if oid == _LARGE_OBJECTS:
            self._written_before = self.written
        self._current[oid] = 0.0


def _weight(table: Table) -> int:
    """The size of a table; an empty one takes time as well."""
    return max(table.size, PAGE)


@contextmanager
def watched(info: Conninfo, progress: DumpProgress, name: str) -> Iterator[Callable[[], None]]:
    """Ask the server for the progress of sessions with this application name.

    Yields a function to be called several times a second, which never waits. No figures
    are no failure: where the server gives none, or is older than 14, pg_dump's log serves.
    """
    with closing(_conversation(info, progress, name)) as steps:

        def look() -> None:
            with suppress(psycopg2.Error, ConnectError, StopIteration):
                next(steps)

        yield look


def _conversation(info: Conninfo, progress: DumpProgress, name: str) -> Generator[None]:
    while not progress.has_begun:  # pg_dump connects first, in case connections are scarce
        yield
    with starting_session(info, application_name=name) as session:
        yield from _answer(session)
        session.begin(_NO_WAITING)
        yield from _answer(session)
        session.begin(_SIZES, progress.oids)
        with suppress(psycopg2.errors.LockNotAvailable):
            progress.weigh((yield from _answer(session)))
        while True:
            session.begin(_COPY, name)
            progress.saw((yield from _answer(session)))
            since = time.monotonic()
            while time.monotonic() < since + _ASK_EVERY:
                yield


def _answer(session: Session) -> Generator[None, None, Rows]:
    while (rows := session.poll()) is None:
        yield
    return rows
