"""Lock the tables of a database against statements that ignore snapshots."""

import math
from typing import NamedTuple

import psycopg2
from psycopg2 import errors

from app.errors import DumpError
from app.postgres.connection import Session, quoted
from app.postgres.locking import LET_GO, Lock, watched

_BATCH = 500  # tables in one statement
_BRIEF = 100  # milliseconds; far below the server's deadlock_timeout

# Every table that pg_dump locks: of extensions the configuration tables alone. Tables that
# the role cannot read are left to pg_dump, which reports them.
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

_UNLOCKED = """
    AND c.oid NOT IN (SELECT relation FROM pg_locks
                      WHERE locktype = 'relation' AND granted AND pid = pg_backend_pid())
"""

# A table that was listed is gone by now, or is not a table any more.
_GONE = (errors.UndefinedTable, errors.InvalidSchemaName, errors.WrongObjectType)
# Locking a view locks what it reads: its owner may not, or it reads itself.
_NOT_POSSIBLE = (errors.InsufficientPrivilege, errors.InvalidObjectDefinition)

# The least number of locks that the server has room for, and how many sessions share it.
# The manual: "max_locks_per_transaction * (max_connections + max_prepared_transactions)".
_ROOM = """
    SELECT current_setting('max_locks_per_transaction')::int,
           current_setting('max_connections')::int
           + current_setting('max_prepared_transactions')::int
"""
# There are more: those that its own processes do not use, and some spare memory.
_ROOM_TO_SPARE = 1.5
_OTHER_LOCKS = 1000  # of other sessions, and of catalogues and indexes


class Table(NamedTuple):
    """A table that is about to be locked."""

    oid: int
    schema: str
    name: str


def refuse_too_many_tables(lock: Lock) -> None:
    """Raise DumpError where the server has too few locks for the tables."""
    number, per_session, sessions = _room(lock)
    if number > per_session * sessions * _ROOM_TO_SPARE:
        raise too_few_locks(number, per_session, sessions)


def sessions_that_can_lock(lock: Lock) -> int:
    """How many sessions can lock all tables, with the server's own room to spare."""
    number, per_session, sessions = _room(lock)
    return max(per_session * sessions - _OTHER_LOCKS, 0) // max(number, 1)


def found_too_few_locks(lock: Lock) -> DumpError:
    """The same error, when the server reports it later."""
    return too_few_locks(*_room(lock))


def _room(lock: Lock) -> tuple[int, int, int]:
    """The number of tables, the locks of each session, and the number of sessions."""
    with watched("the tables cannot be counted", lock.info):
        ((number,),) = lock.rows(f"SELECT count(*) FROM ({_TABLES}) tables")  # noqa: S608
        ((per_session, sessions),) = lock.rows(_ROOM)
    return number, per_session, sessions


def too_few_locks(tables: int, per_session: int, sessions: int) -> DumpError:
    """The error of a server with too few locks for so many tables."""
    needed = math.ceil((tables + _OTHER_LOCKS) / sessions / 64) * 64
    needed = max(needed, per_session * 2)
    return DumpError(
        f"the server has too few locks for {tables} tables",
        detail=f"A dump locks every table; max_locks_per_transaction is {per_session}, and"
        f" {sessions} sessions share {per_session * sessions} locks.",
        hint=f"Set max_locks_per_transaction to at least {needed} and restart the server.",
    )


class Busy(Exception):
    """A table that somebody else has locked."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.table = table


def lock_tables(
    session: Session, lock: Lock, busy: Table | None, seconds: float, *, with_views: bool = False
) -> list[int]:
    """Lock all tables for reading, in a transaction without a snapshot yet.

    Tables that are created meanwhile are locked as well. To wait while holding other locks
    risks a deadlock: so wait for the `busy` table first, at most so many seconds. Returns
    the oids of those that cannot be locked. Raises Busy for the next one, psycopg2.Error.
    """
    if busy is not None:
        session.rows(f"SET LOCAL lock_timeout = {max(1, round(seconds * 1000))}")
        _refusal(session, [busy])
    session.rows(f"SET LOCAL lock_timeout = {_BRIEF}")
    seen: list[int] = []
    not_possible: list[int] = []
    listed = f"{_TABLES_AND_VIEWS if with_views else _TABLES} {_NEW}"
    while new := [Table(*row) for row in lock.rows(listed, seen)]:
        for at in range(0, len(new), _BATCH):
            tables = new[at : at + _BATCH]
            if _refusal(session, tables) is not None:
                not_possible += [
                    table.oid
                    for table in tables
                    if isinstance(_refusal(session, [table]), _NOT_POSSIBLE)
                ]
        seen += [table.oid for table in new]
    return not_possible


def unlocked_tables(
    session: Session, not_possible: list[int], *, patience: float, with_views: bool = False
) -> list[Table]:
    """The tables that the session sees in its snapshot and has not locked, but could.

    The first query of a transaction begins its snapshot. Raises psycopg2.Error.
    """
    sql = f"{_TABLES_AND_VIEWS if with_views else _TABLES} {_UNLOCKED} {_NEW}"
    return [Table(*row) for row in session.rows(sql, not_possible, patience=patience)]


def _refusal(session: Session, tables: list[Table]) -> psycopg2.Error | None:
    """Lock the tables; returns the error where one is gone or cannot be locked.

    The server limits the wait for a lock, so our own patience is endless.
    """
    session.rows("SAVEPOINT locking")
    try:
        session.rows(_locking(tables), patience=math.inf)
    except errors.LockNotAvailable:
        session.rows("ROLLBACK TO SAVEPOINT locking")
        raise Busy(_first_busy(session, tables)) from None
    except (*_GONE, *_NOT_POSSIBLE) as error:
        session.rows(LET_GO.format("locking"))
        return error
    session.rows("RELEASE SAVEPOINT locking")
    return None


def _locking(tables: list[Table], ending: str = "") -> str:
    names = ", ".join(f"ONLY {quoted(table.schema)}.{quoted(table.name)}" for table in tables)
    return f"LOCK TABLE {names} IN ACCESS SHARE MODE{ending}"


def _first_busy(session: Session, tables: list[Table]) -> Table:
    """The first table that somebody else has locked; the last one if none is locked any more."""
    for table in tables[:-1]:
        try:
            session.rows(_locking([table], " NOWAIT"))
        except psycopg2.Error:
            return table
    return tables[-1]
