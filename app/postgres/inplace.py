"""Load a dump over the database it came from: what blocks it, and in which order to drop.

`pg_restore --clean --if-exists --single-transaction --exit-on-error`, and nothing else: without
the transaction, it leaves tables with duplicated rows (docs/how-to/restore-by-hand.md).
"""

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg2

from app.errors import PostgresError
from app.postgres.archive import Entry
from app.postgres.census import Census
from app.postgres.connection import OWN_PATH, Rows, Session, starting_session
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server

_INDEXES = ("INDEX", "CONSTRAINT")
_INTERVAL = 1.0  # seconds between two checks for locks

# A role of ours that can reach beyond the database, or can become one that does.
_POWERS = """
    SELECT rolname FROM pg_roles r
    WHERE pg_has_role(oid, 'MEMBER') AND (
        rolsuper OR rolcreaterole AND rolname = current_user
        OR rolname IN ('pg_execute_server_program', 'pg_write_server_files',
                       'pg_read_server_files'))
    ORDER BY rolname <> current_user, rolname LIMIT 1
"""

# Everything that goes when the objects of the backup are dropped: these, their parts, and
# what belongs to them, such as a partition or the sequence of a column. Anything else that
# depends on one of these makes the drop fail.
_AROUND = """
    WITH RECURSIVE backed AS MATERIALIZED (
        SELECT kind, name FROM jsonb_to_recordset(%s::jsonb) AS it (kind text, name text)
    ), known AS MATERIALIZED (
        SELECT part FROM jsonb_array_elements(%s::jsonb) part
    ), named AS MATERIALIZED (
        SELECT classid, objid, told.type, told.identity
        FROM (SELECT classid, objid FROM pg_depend WHERE objsubid = 0
              GROUP BY 1, 2 HAVING bool_and(deptype <> 'e')) ours,
             pg_identify_object(classid, objid, 0) told
    ), going AS (
        SELECT classid, objid FROM named JOIN backed ON (kind, name) = (type, identity)
        UNION
        SELECT d.classid, d.objid FROM pg_depend d
        JOIN going g ON (d.refclassid, d.refobjid) = (g.classid, g.objid)
        WHERE d.deptype IN ('a', 'i', 'P', 'S')
    ), dependent AS (
        SELECT d.* FROM pg_depend d
        JOIN going g ON (d.refclassid, d.refobjid) = (g.classid, g.objid)
        WHERE d.deptype = 'n' AND (d.classid, d.objid) NOT IN (SELECT classid, objid FROM going)
          AND d.classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass,
                            'pg_constraint'::regclass, 'pg_attrdef'::regclass,
                            'pg_rewrite'::regclass, 'pg_policy'::regclass,
                            'pg_trigger'::regclass)
        UNION ALL
        SELECT d.* FROM pg_constraint c
        JOIN pg_depend d ON (d.classid, d.objid) = ('pg_constraint'::regclass, c.oid)
        JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE c.contype = 'f' AND c.conparentid = 0 AND d.deptype = 'n'
          AND (d.refclassid, d.refobjid) = ('pg_class'::regclass, c.confrelid)
          AND ('pg_class'::regclass, c.conrelid) IN (SELECT classid, objid FROM going)
          AND (d.refclassid, d.refobjid) IN (SELECT classid, objid FROM going)
          AND jsonb_build_array(n.nspname, t.relname || ' ' || c.conname) NOT IN
              (SELECT part FROM known)
    )
    SELECT DISTINCT 'depends',
        CASE classid WHEN 'pg_rewrite'::regclass THEN
            (SELECT pg_describe_object('pg_class'::regclass, ev_class, 0)
             FROM pg_rewrite WHERE oid = objid)
        ELSE pg_describe_object(classid, objid, 0) END,
        pg_describe_object(refclassid, refobjid, 0)
    FROM dependent
    UNION ALL
    SELECT 'goes', type, identity FROM named JOIN going USING (classid, objid)
    ORDER BY 1, 2, 3
"""

_THERE = """
    SELECT 'SCHEMA', nspname FROM pg_namespace
    UNION ALL SELECT 'EXTENSION', extname FROM pg_extension
"""

_WAITING = f"""
    {OWN_PATH}
    SELECT extract(epoch FROM clock_timestamp() - a.query_start)::float8,
           (SELECT string_agg(format('%%s, process %%s', usename, pid), '; ')
            FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(a.pid)))
    FROM pg_stat_activity a
    WHERE application_name = %s AND datname = current_database() AND wait_event_type = 'Lock'
"""  # noqa: S608 - our own text

_OID = """
    SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname, c.relname) = (%s, %s)
"""


@dataclass(frozen=True)
class Around:
    """The objects in a database that are not in the backup."""

    depends: list[str]  # on objects of the backup, which therefore cannot be dropped
    stays: list[tuple[str, str]]  # kind and name of newer objects that are left alone
    goes: list[str]  # newer objects that are dropped along with objects of the backup


def powers_of(server: Server) -> str:
    """The role through which we could reach beyond the database; empty if there is none."""
    return str(server.ask(_POWERS) or "")


def look_around(server: Server, backed: Census, live: Census, entries: Iterable[Entry]) -> Around:
    """Compare the connected database, whose census is `live`, with the contents of a backup."""
    ours = {(kind, name) for kind, name, *_ in backed["owned"] if name and kind != "schema"}
    known = [[entry.schema, entry.name] for entry in entries if entry.kind == "FK CONSTRAINT"]
    objects = json.dumps([{"kind": kind, "name": name} for kind, name in sorted(ours)])
    rows = server.rows(_AROUND, objects, json.dumps(known))
    going = {(kind, name) for what, kind, name in rows if what == "goes"}
    schemas = {name for kind, name, *_ in backed["owned"] if kind == "schema"}
    more = [
        (kind, name)
        for kind, name, *_ in live["owned"]
        if name and not kind.endswith(" column") and (kind, name) not in ours
        if not (kind == "schema" and name in schemas)
    ]
    return Around(
        [f"{one} depends on {other}" for what, one, other in rows if what == "depends"],
        [item for item in more if item not in going],
        [" ".join(item) for item in more if item in going],
    )


def over_live(server: Server, entries: Iterable[Entry]) -> list[Entry]:
    """The entries in an order that lets all of them be dropped in the connected database.

    Existing schemas and extensions stay, because other objects in them would block the drop.
    """
    there = {(kind, name) for kind, name in server.rows(_THERE)}
    dropped: list[Entry] = []
    stays: set[int] = set()
    for entry in entries:
        of_extension = entry.kind == "COMMENT" and entry.name.startswith("EXTENSION ")
        if (entry.kind, entry.name) in there:
            stays.add(entry.id)
        elif not (of_extension and (not entry.needs or stays.intersection(entry.needs))):
            dropped.append(entry)
    return _children_first(dropped)


def _children_first(entries: list[Entry]) -> list[Entry]:
    """Put the indexes of partitions before those of their parents.

    An index that is attached to another cannot be dropped on its own. pg_restore drops in
    reverse order, so the parent's index goes first and takes it along.
    """
    indexes = {entry.id for entry in entries if entry.kind in _INDEXES}
    attached = {
        entry.id: parents
        for entry in entries
        if entry.id in indexes and (parents := indexes.intersection(entry.needs))
    }
    family = set(attached).union(*attached.values())
    waiting = [entry for entry in reversed(entries) if entry.id in family]
    ordered: list[Entry] = []
    for entry in entries:
        if entry.id not in family:
            ordered.append(entry)
        else:  # the whole family goes where its first member was
            ordered += waiting
            waiting = []
    return ordered


def oid_of(server: Server, schema: str, name: str) -> int | None:
    """The OID of a table, which changes when it is dropped and created again."""
    oid = server.ask(_OID, schema, name)
    return None if oid is None else int(oid)


@contextmanager
def patient(info: Conninfo, application_name: str, limit: float) -> Iterator[Callable[[], None]]:
    """Make sure that sessions of this name wait no longer than `limit` seconds for a lock.

    Yields a function to call several times a second; it never waits, and raises
    PostgresError. pg_restore itself switches lock_timeout off.
    """
    with (
        starting_session(info, application_name="backstop look") as session,
        closing(_watch(session, application_name, limit)) as steps,
    ):

        def look() -> None:
            try:
                next(steps, None)
            except psycopg2.Error as error:
                raise PostgresError(
                    "the session that watches for locks was lost", detail=type(error).__name__
                ) from None

        yield look


def _watch(session: Session, application_name: str, limit: float) -> Generator[None]:
    yield from _answer(session)
    while True:
        asked = time.monotonic()
        session.begin(_WAITING, application_name)
        for seconds, blockers in (yield from _answer(session)):
            if seconds > limit:
                raise PostgresError(
                    f"another session has held a lock for longer than {limit:.0f} s",
                    detail=f"Held by {blockers}." if blockers else "",
                    hint="End that session or wait for it, or raise BACKSTOP_LOCK_TIMEOUT.",
                )
        while time.monotonic() < asked + _INTERVAL:
            yield


def _answer(session: Session) -> Generator[None, None, Rows]:
    while (rows := session.poll()) is None:
        yield
    return rows
