"""A dump over the database that it came from: what is in its way, and in which order it goes.

`pg_restore --clean --if-exists --single-transaction --exit-on-error`, and nothing
else: without the transaction it leaves tables with doubled rows (docs/how-to/restore-by-hand.md).
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
_ASK_EVERY = 1.0  # seconds

# Who could leave the database, or become somebody who can.
_POWERS = """
    SELECT rolname FROM pg_roles r
    WHERE pg_has_role(oid, 'MEMBER') AND (
        rolsuper OR rolcreaterole AND rolname = current_user
        OR rolname IN ('pg_execute_server_program', 'pg_write_server_files',
                       'pg_read_server_files'))
    ORDER BY rolname <> current_user, rolname LIMIT 1
"""

# What goes when the objects of the backup are dropped: these, their parts, and what
# belongs to them, such as a partition or the sequence of a column. What depends on
# one of these and does not go itself makes the drop fail.
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
    """What is in a database beside the objects of a backup."""

    depends: list[str]  # on these, so that they could not be dropped
    stays: list[tuple[str, str]]  # kind and name: what was made since and is left alone
    goes: list[str]  # what was made since and is part of what is dropped


def powers_of(server: Server) -> str:
    """The role by which who is signed in could leave the database; empty if there is none."""
    return str(server.ask(_POWERS) or "")


def look_around(server: Server, backed: Census, living: Census, entries: Iterable[Entry]) -> Around:
    """Compare the database we are in, whose census is `living`, with what a backup has."""
    ours = {(kind, name) for kind, name, *_ in backed["owned"] if name and kind != "schema"}
    known = [[each.schema, each.name] for each in entries if each.kind == "FK CONSTRAINT"]
    asked = json.dumps([{"kind": kind, "name": name} for kind, name in sorted(ours)])
    rows = server.rows(_AROUND, asked, json.dumps(known))
    going = {(kind, name) for what, kind, name in rows if what == "goes"}
    schemas = {name for kind, name, *_ in backed["owned"] if kind == "schema"}
    more = [
        (kind, name)
        for kind, name, *_ in living["owned"]
        if name and not kind.endswith(" column") and (kind, name) not in ours
        if not (kind == "schema" and name in schemas)
    ]
    return Around(
        [f"{one} depends on {other}" for what, one, other in rows if what == "depends"],
        [each for each in more if each not in going],
        [" ".join(each) for each in more if each in going],
    )


def over_living(server: Server, entries: Iterable[Entry]) -> list[Entry]:
    """The entries in an order in which all can be dropped in the database we are in.

    Schemas and extensions that are there stay: what else is in them keeps them
    from being dropped.
    """
    there = {(kind, name) for kind, name in server.rows(_THERE)}
    kept: list[Entry] = []
    stays: set[int] = set()
    for entry in entries:
        of_extension = entry.kind == "COMMENT" and entry.name.startswith("EXTENSION ")
        if (entry.kind, entry.name) in there:
            stays.add(entry.id)
        elif not (of_extension and (not entry.needs or stays.intersection(entry.needs))):
            kept.append(entry)
    return _children_first(kept)


def _children_first(entries: list[Entry]) -> list[Entry]:
    """Let indexes of partitions be made before those of their parents.

    An index that is attached to another cannot be dropped by itself. pg_restore
    drops in the reverse order: so the parent's goes first, and takes it along.
    """
    indexes = {each.id for each in entries if each.kind in _INDEXES}
    attached = {
        each.id: parents
        for each in entries
        if each.id in indexes and (parents := indexes.intersection(each.needs))
    }
    family = set(attached).union(*attached.values())
    waiting = [each for each in reversed(entries) if each.id in family]
    ordered: list[Entry] = []
    for entry in entries:
        if entry.id not in family:
            ordered.append(entry)
        else:  # all of them, where the first one was
            ordered += waiting
            waiting = []
    return ordered


def oid_of(server: Server, schema: str, name: str) -> int | None:
    """The number of a table, which is another one after it was dropped and made anew."""
    found = server.ask(_OID, schema, name)
    return None if found is None else int(found)


@contextmanager
def patient(info: Conninfo, application_name: str, limit: float) -> Iterator[Callable[[], None]]:
    """Watch that the sessions of this name do not wait for a lock for more than `limit` seconds.

    Yields what is to be called several times a second; it never waits, and
    raises PostgresError. pg_restore itself switches lock_timeout off.
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
                    "the session that looks after locks was lost", detail=type(error).__name__
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
        while time.monotonic() < asked + _ASK_EVERY:
            yield


def _answer(session: Session) -> Generator[None, None, Rows]:
    while (rows := session.poll()) is None:
        yield
    return rows
