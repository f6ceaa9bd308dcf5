"""How far a dump is: from the server's own figures, else from pg_dump's lines."""

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
_ASK_EVERY = 1.0  # seconds between two questions to the server

_TABLE_LINE = re.compile(r'pg_dump: dumping contents of table "(.*)"')
_LARGE_OBJECT_LINE = re.compile(r"pg_dump: saving large objects")

# The true sizes: the catalogue's pages are those of the last ANALYZE. A table
# that somebody locks would hold the question up.
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
    rows: float  # the server's estimate; below 1 where it has none


class DumpProgress:
    """What is done of a dump, and which table is at work, weighted by size."""

    def __init__(self, tables: list[Table]) -> None:
        self.has_begun = False  # pg_dump has said something
        self.oids = [*(each.oid for each in tables), _LARGE_OBJECTS]
        self.written = 0  # bytes of the dump so far
        self._written_before = 0  # when the current table was begun
        self._tables = {each.oid: each for each in tables}
        self._by_name = {each.name: each.oid for each in tables}
        self._tables[_LARGE_OBJECTS] = Table(_LARGE_OBJECTS, "large objects", 0, 0)
        self._seen: set[int] = set()
        self._seen_size = 0
        self._current: Table | None = None
        self._share = 0.0
        self._fraction = 0.0
        self._total = sum(map(_weight, self._tables.values()))
        self.moved = 0  # rows copied of the current table: changes while a dump lives

    @property
    def total(self) -> int:
        """How many tables there are."""
        return len(self._tables) - 1

    @property
    def done(self) -> int:
        """How many tables are behind us."""
        at_work = self._current is not None and self._current.oid != _LARGE_OBJECTS
        return len(self._seen - {_LARGE_OBJECTS}) - at_work

    @property
    def table(self) -> str:
        """The table at work, or empty."""
        return self._current.name if self._current else ""

    @property
    def fraction(self) -> float:
        """How much of the dump is done, from 0 to 1; it never falls."""
        current = _weight(self._current) * (self._share - 1) if self._current else 0
        self._fraction = max(self._fraction, min((self._seen_size + current) / self._total, 1))
        return self._fraction

    def heard(self, line: str) -> None:
        """Take a line of pg_dump: it names each table at its start."""
        self.has_begun = True
        if match := _TABLE_LINE.match(line):
            self._turn_to(self._by_name.get(match[1]))
        elif _LARGE_OBJECT_LINE.match(line):
            self._turn_to(_LARGE_OBJECTS)

    def saw(self, oid: int, rows: int, size: int) -> None:
        """Take what the server says of the table that is being copied."""
        self.moved = rows
        self._turn_to(oid)
        if self._current is not None and self._current.oid == oid:
            expected = self._current.rows
            share = rows / expected if expected >= 1 else size / _weight(self._current)
            self._share = min(share, 1.0)

    def wrote(self, size: int) -> None:
        """Take the size of the dump so far; of large objects nothing else is told.

        They are compressed, so their share is rather too small.
        """
        self.written = size
        if self._current is not None and self._current.oid == _LARGE_OBJECTS:
            share = (size - self._written_before) / _weight(self._current)
            self._share = max(self._share, min(share, 1.0))

    def weigh(self, sizes: Rows) -> None:
        """Take the true sizes of tables: pairs of oid and bytes."""
        for oid, size in sizes:
            if oid in self._tables and size is not None:
                self._tables[oid].size = size
        self._total = sum(map(_weight, self._tables.values()))
        self._seen_size = sum(_weight(self._tables[oid]) for oid in self._seen)

    def _turn_to(self, oid: int | None) -> None:
        if oid is None or oid in self._seen or oid not in self._tables:
            return
        self._seen.add(oid)
        self._written_before = self.written
        self._current, self._share = self._tables[oid], 0.0
        self._seen_size += _weight(self._current)


def _weight(table: Table) -> int:
    """Each table costs something, empty ones too."""
    return max(table.size, PAGE)


@contextmanager
def watched(info: Conninfo, progress: DumpProgress, name: str) -> Iterator[Callable[[], None]]:
    """Let the server tell how far the dump of the sessions with this application name is.

    Yields what is to be called several times a second; it never waits. A
    figure is not worth a failure: where the server gives none, or is older
    than 14, pg_dump's lines alone must do.
    """
    with closing(_talk(info, progress, name)) as steps:

        def look() -> None:
            with suppress(psycopg2.Error, ConnectError, StopIteration):
                next(steps)

        yield look


def _talk(info: Conninfo, progress: DumpProgress, name: str) -> Generator[None]:
    while not progress.has_begun:  # pg_dump comes first, should connections be scarce
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
            for row in (yield from _answer(session)):
                progress.saw(*row)
            asked = time.monotonic()
            while time.monotonic() < asked + _ASK_EVERY:
                yield


def _answer(session: Session) -> Generator[None, None, Rows]:
    while (rows := session.poll()) is None:
        yield
    return rows
