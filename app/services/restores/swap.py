"""Swap a restored database for the live one, and back."""

import logging
import time
from typing import Any

import psycopg2

from app.errors import AppError, Conflict, NotFound, PostgresError
from app.extensions import db, writing
from app.models import Restore
from app.models.types import now
from app.pausing import pause
from app.postgres.connection import Session, error_text, guarded_session, quoted
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server, cut_name, maintenance, serving
from app.postgres.locking import hold_lock
from app.services.jobs.session_names import restore_session
from app.services.restores.refresh import is_made_by
from app.services.restores.scratch import kept_until, live_of

logger = logging.getLogger(__name__)

_TRIES = 5
_PATIENCE = 8.0  # seconds; the server itself waits five seconds for sessions to end
_GONE = 10_000  # milliseconds
_TICK = 0.005  # seconds between two rounds of ending sessions
_HELD = 2.0  # seconds that a rename is held back at most

_SESSIONS = """
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = %s AND pid <> pg_backend_pid()
"""
_NOT_OURS_TO_END = """
    SELECT DISTINCT usename FROM pg_stat_activity a
    WHERE datname = %s AND backend_type = 'client backend' AND NOT (
        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        OR (pg_has_role(usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))
           AND NOT (SELECT rolsuper FROM pg_roles r WHERE r.oid = a.usesysid))
"""


def refuse_unswappable(server: Server, database: str) -> None:
    """Raise Conflict for what would block a rename, by name."""
    prepared = server.rows("SELECT gid FROM pg_prepared_xacts WHERE database = %s", database)
    obstacles = [f"prepared transaction {gid}" for (gid,) in prepared]
    slots = server.rows("SELECT slot_name FROM pg_replication_slots WHERE database = %s", database)
    obstacles += [f"logical replication slot {name}" for (name,) in slots]
    others = server.rows(_NOT_OURS_TO_END, database)
    obstacles += [f"sessions of {name}, which our role may not end" for (name,) in others]
    owns = "SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = %s"
    if server.ask(owns, database) is False:
        obstacles.append("our role is neither its owner nor a superuser")
    if obstacles:
        raise Conflict(
            f'database "{database}" cannot be replaced now',
            detail="; ".join(obstacles) + ".",
            hint="End or remove these, or restore beside.",
        )


def swap_in(restore_id: str, comment: str | None) -> dict[str, Any]:
    """Give the working database of a restore the final name, and its `comment`.

    The database of that name is kept under a name that is recorded on the row beforehand: it shows
    after a crash whether the swap took place. Returns that name and how long the database
    was away. Raises PostgresError with that database unchanged.
    """
    with writing() as session:
        row = session.get_one(Restore, restore_id)
        live = live_of(row)
        row.kept = cut_name(row.database, f"__before_{now():%Y%m%dT%H%M%S}")
        row.kept_until = kept_until()
        database, working, kept = row.database, row.working, row.kept
    name = restore_session(restore_id)
    with live as info:
        away = _swap(info, name, [(database, kept), (working, database)])
        write_comment(maintenance(info), database, comment)
    logger.info("database replaced name=%r kept=%r", database, kept)
    return {"kept": kept, "awaySeconds": round(away, 3)}


def write_comment(where: Conninfo, database: str, comment: str | None) -> None:
    """Set the comment of a database; a failure does not matter."""
    try:
        with serving(where, application_name="backstop swap") as server:
            server.comment_on(database, comment)
    except AppError as error:
        logger.warning("no comment written database=%r error=%r", database, error.in_words())


def not_undoable() -> Conflict:
    """The error of a restore whose old database is not kept."""
    return Conflict("this restore cannot be undone: the old database is not kept")


def has_swapped(restore_id: str) -> bool:
    """Whether a restore whose process is gone had swapped the databases.

    Its sessions are ended first, because one may be about to do so. Raises ConnectError,
    PostgresError if that cannot be found out.
    """
    row = db.session.get_one(Restore, restore_id)
    kept, working = row.kept, row.working
    live = live_of(row) if kept is not None else None
    db.session.commit()
    if kept is None or live is None:
        return False
    with live as info, serving(maintenance(info), application_name="backstop look") as server:
        server.end_sessions(restore_session(restore_id))
        return server.has_database(kept) and not server.has_database(working)


def undo(restore_id: str, *, by: str) -> str:
    """Give the replaced database its name back; return the other's new name.

    Raises NotFound, Conflict if there is nothing to undo, PostgresError.
    """
    with writing() as session:
        row = session.get(Restore, restore_id)
        if row is None:
            raise NotFound("no restore has this id")
        if row.kept is None or not row.can_be_undone:
            raise not_undoable()
        database, kept, live = row.database, row.kept, live_of(row)
        is_live, schedule_id = row.is_replace, row.schedule_id
    aside = cut_name(database, f"__undone_{now():%Y%m%dT%H%M%S}")
    with live as info:
        with serving(maintenance(info), application_name="backstop undo") as server:
            if not server.has_database(kept):
                raise Conflict(f'database "{kept}" no longer exists')
            if not is_live and not is_made_by(schedule_id, server.oid_of(database)):
                raise Conflict(f'database "{database}" is no longer one that its schedule made')
            refuse_unswappable(server, database)
        if is_live:
            with hold_lock(info, application_name="backstop undo"):
                pass  # no backup of it runs
        _swap(info, "backstop undo", [(database, aside), (kept, database)])
    with writing() as session:
        row = session.get_one(Restore, restore_id)
        row.undone_at, row.undone_by, row.kept = now(), by[:255], aside
    logger.info("restore undone name=%r by=%r", database, by)
    return aside


def _swap(info: Conninfo, name: str, renames: list[tuple[str, str]]) -> float:
    """Rename in one transaction while the sessions of the first database are ended.

    Returns the seconds from the first ended session to the commit. A rename that finds
    sessions sleeps for 100 ms before it looks again (CountOtherDBBackends in procarray.c).
    So a comment, which is never committed, holds it back until none is left; waiting for
    the lock, the rename also keeps new sessions out.
    """
    steps = (f"ALTER DATABASE {quoted(old)} RENAME TO {quoted(new)}" for old, new in renames)
    statement = "; ".join(steps)
    live, first_error = renames[0][0], ""
    where = maintenance(info)
    for _ in range(_TRIES):
        with (
            guarded_session(where, application_name=name) as holding,
            guarded_session(where, application_name=name) as renaming,
            guarded_session(where, application_name=name) as ending,
        ):
            pid = renaming.ask("SELECT pg_catalog.pg_backend_pid()")
            began = time.monotonic()
            try:
                holding.rows("BEGIN")
                holding.rows(f"COMMENT ON DATABASE {quoted(live)} IS NULL", patience=_HELD)
                began = time.monotonic()
                # Renaming first: its lock holds newcomers off while the others end.
                renaming.begin(statement, patience=_PATIENCE)
                _end_sessions_until_held(ending, pid, live)
                holding.rows("ROLLBACK")
                _end_sessions_until_done(renaming, ending, live)
            except psycopg2.Error as error:
                first_error = first_error or error_text(error, info)
            else:
                return time.monotonic() - began
        if _has_renamed(where, pid, renames):
            return time.monotonic() - began
    raise PostgresError(
        f'database "{live}" could not be renamed; it is unchanged',
        detail=first_error,
        hint="A session keeps it open: pg_stat_activity shows which. Try again, or restore beside.",
    )


def _has_renamed(where: Conninfo, pid: int, renames: list[tuple[str, str]]) -> bool:
    """Whether a session that did not answer has renamed them; it is ended first.

    Otherwise it could wait for a lock and rename them unexpectedly later.
    """
    (live, aside), (fresh, _) = renames
    with serving(where, application_name="backstop look") as server:
        server.ask(
            f"SELECT pg_terminate_backend(pid, {_GONE}) FROM pg_stat_activity"  # noqa: S608
            " WHERE pid = %s",
            pid,
        )
        if server.ask("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", pid):
            raise PostgresError(
                f'it is not known whether database "{live}" was renamed',
                detail=f"Process {pid} of the server does not end.",
            )
        return server.has_database(aside) and not server.has_database(fresh)


def _end_sessions_until_held(ending: Session, pid: int, live: str) -> None:
    """End the sessions once the rename, process `pid`, waits for its lock; give up in time.

    Giving up is harmless, because the rename looks for sessions itself.
    """
    waits = "SELECT count(*) FROM pg_catalog.pg_locks WHERE pid = %s AND NOT granted"
    deadline = time.monotonic() + _HELD
    while time.monotonic() < deadline:
        if ending.ask(waits, pid) and not ending.ask(_SESSIONS, live):
            return
        pause(_TICK)


def _end_sessions_until_done(renaming: Session, ending: Session, live: str) -> None:
    while renaming.poll() is None:
        ending.rows(_SESSIONS, live)
        pause(_TICK)
