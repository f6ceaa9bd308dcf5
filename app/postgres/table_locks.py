"""Lock the tables of a database against whatever obeys no snapshot."""

import math
from typing import NamedTuple

import psycopg2
from psycopg2 import errors

from app.errors import DumpError
from app.postgres.connection import Session, quoted
from app.postgres.locking import LET_GO, Lock, watched

_BATCH = 500  # tables in one statement
_BRIEF = 100  # milliseconds; far below the server's deadlock_timeout

# Every table that pg_dump locks. Members of extensions it leaves to them, but for the
# tables that they have marked as configuration. What the role may not read is left to
# pg_dump: it says so.
_RELATIONS = """
    SELECT c.oid::bigint, n.nspname, c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN {kinds} AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND (NOT EXISTS (SELECT FROM pg_depend
                       WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
           OR EXISTS (SELECT FROM pg_extension WHERE c.oid = ANY (extconfig)))
      AND has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
"""
_TABLES = _RELATIONS.replace("{kinds}", "('r', 'p')")
_TABLES_AND_VIEWS = _RELATIONS.replace("{kinds}", "('r', 'p', 'v')")
_NEW = "AND c.oid NOT IN (SELECT unnest(%s::oid[]))"

#: Those that this session's snapshot sees and that it has not locked.
UNLOCKED = f"""
    {_TABLES}
    AND c.oid NOT IN (SELECT relation FROM pg_locks
                      WHERE locktype = 'relation' AND granted AND pid = pg_backend_pid())
"""  # noqa: S608 - our own text

# How many locks the server has room for at the least, and how many sessions share them.
# The manual: "max_locks_per_transaction * (max_connections + max_prepared_transactions)".
_ROOM = """
    SELECT current_setting('max_locks_per_transaction')::int,
           current_setting('max_connections')::int
           + current_setting('max_prepared_transactions')::int
"""
# Beyond that there is what its own processes do not use, and some spare memory.
_ROOM_TO_SPARE = 1.5
_OTHER_LOCKS = 1000  # of everybody else, and of catalogues and indexes


class Table(NamedTuple):
    """A table that is about to be locked."""

    oid: int
    schema: str
    name: str


def refuse_too_many_tables(lock: Lock) -> None:
    """Raise DumpError where the server has no room for a lock on each table."""
    number, each, sessions = _room(lock)
    if number > each * sessions * _ROOM_TO_SPARE:
        raise too_few_locks(number, each, sessions)


def found_too_few_locks(lock: Lock) -> DumpError:
    """The same, when it turns out later."""
    return too_few_locks(*_room(lock))


def _room(lock: Lock) -> tuple[int, int, int]:
    """How many tables there are, the locks of each session, and how many sessions."""
    with watched("the tables cannot be counted", lock.info):
        ((number,),) = lock.rows(f"SELECT count(*) FROM ({_TABLES}) tables")  # noqa: S608
        ((each, sessions),) = lock.rows(_ROOM)
    return number, each, sessions


def too_few_locks(tables: int, each: int, sessions: int) -> DumpError:
    """The error of a server that cannot lock so many tables at once."""
    needed = math.ceil((tables + _OTHER_LOCKS) / sessions / 64) * 64
    needed = max(needed, each * 2)
    return DumpError(
        f"the server has too few locks for {tables} tables",
        detail=f"A dump locks every table; max_locks_per_transaction is {each}, and"
        f" {sessions} sessions share {each * sessions} locks.",
        hint=f"Set max_locks_per_transaction to at least {needed} and restart the server.",
    )


class Busy(Exception):
    """A table that somebody else keeps from us."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.table = table


def lock_tables(
    session: Session, lock: Lock, busy: Table | None, seconds: float, *, with_views: bool = False
) -> None:
    """Lock all tables for reading, in a transaction that has no snapshot yet.

    Those that are made meanwhile are locked as well. Who waits while he holds others is
    part of deadlocks: for so many `seconds` we wait for the `busy` one, before all others.
    Raises Busy for the next one, psycopg2.Error.
    """
    if busy is not None:
        session.rows(f"SET LOCAL lock_timeout = {max(1, round(seconds * 1000))}")
        _locks(session, [busy])
    session.rows(f"SET LOCAL lock_timeout = {_BRIEF}")
    locked: list[int] = []
    listed = f"{_TABLES_AND_VIEWS if with_views else _TABLES} {_NEW}"
    while new := [Table(*row) for row in lock.rows(listed, locked)]:
        for at in range(0, len(new), _BATCH):
            tables = new[at : at + _BATCH]
            if not _locks(session, tables):
                for table in tables:  # one of them has gone: all others
                    _locks(session, [table])
        locked += [table.oid for table in new]


def _locks(session: Session, tables: list[Table]) -> bool:
    """Whether they could be locked; not where one has gone meanwhile, or is no table now.

    The server ends the wait for a lock, so our own patience has no end.
    """
    session.rows("SAVEPOINT locking")
    try:
        session.rows(_locking(tables), patience=math.inf)
    except errors.LockNotAvailable:
        session.rows("ROLLBACK TO SAVEPOINT locking")
        raise Busy(_first_busy(session, tables)) from None
    except (
        errors.UndefinedTable,
        errors.InvalidSchemaName,
        errors.WrongObjectType,
        errors.InsufficientPrivilege,
    ):
        session.rows(LET_GO.format("locking"))
        return False
    session.rows("RELEASE SAVEPOINT locking")
    return True


def _locking(tables: list[Table], ending: str = "") -> str:
    names = ", ".join(f"ONLY {quoted(each.schema)}.{quoted(each.name)}" for each in tables)
    return f"LOCK TABLE {names} IN ACCESS SHARE MODE{ending}"


def _first_busy(session: Session, tables: list[Table]) -> Table:
    """The first that somebody else holds; the last of them if that is over."""
    for table in tables[:-1]:
        try:
            session.rows(_locking([table], " NOWAIT"))
        except psycopg2.Error:
            return table
    return tables[-1]
