"""Databases and roles that we create for a restore, and the removal of what is left of them."""

import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.config import settings
from app.errors import AppError, Conflict, ConnectError, NotPossible
from app.extensions import db, writing
from app.models import Kind, Restore, Status
from app.models.types import now
from app.postgres import closing
from app.postgres.connection import is_refusal, open_session, quoted
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.databases import Server, at_database, neighbour, serving
from app.postgres.tools import Version
from app.services.databases.configured import address_in_environment, private_dir
from app.services.databases.connections import reached
from app.services.databases.lookup import default_database, find_database
from app.services.jobs.session_names import restore_session

logger = logging.getLogger(__name__)

#: How the names of a restore's working database and role start, and the comment on both.
PREFIX = "backstop_"
COMMENT = "made by Backstop for restore "
#: The same for a drill on a server of its own, which leaves nothing on other servers.
THROWAWAY = "throwaway_"

_KNOWS_ICU_RULES = 16
_SPARE = 3600.0  # seconds that a role stays valid after the longest restore
# The refusal of a role that does not exist, on a server that would take its password.
_NOT_THERE = re.compile(r'password authentication failed|role ".*" does not exist')
_OF_OUR_ROLE = frozenset({"options", "passfile", "replication"})


def server_of(kind: Kind, live: Conninfo) -> Conninfo:
    """The server that a restore of this kind works on, by a database that exists there."""
    url = settings().drill_url if kind is Kind.DRILL else None
    return parse_url(url) if url else live


def live_of(row: Restore) -> AbstractContextManager[Conninfo]:
    """How to connect to the database of a restore meanwhile.

    Raises Conflict if its server is another one now.
    """
    database = find_database(row.database_id) or default_database()
    if row.server != database.server:
        raise Conflict(
            f"this restore was made on {row.server}",
            detail=f"{database.name} is on {database.server} now.",
            hint="Give it the URL of that server again.",
        )
    return reached(database)


def list_file(restore_id: str) -> Path:
    """The file that lists for pg_restore what to load."""
    return private_dir() / f"list-{restore_id}"


@contextmanager
def working_database(
    server: Server,
    info: Conninfo,
    restore_id: str,
    name: str,
    contents: dict[str, Any],
    *,
    as_superuser: bool = False,
) -> Iterator[tuple[Conninfo, Conninfo]]:
    """An empty database like the one that was dumped; yields how role and admin sign in there.

    The role is created for this restore alone, or is that of BACKSTOP_RESTORE_URL. At the
    end, both are dropped, except for a database that has been renamed by then.
    """
    comment = COMMENT + restore_id
    try:
        if (url := restore_url(server.info.server)) and not name.startswith(THROWAWAY):
            role = at_database(parse_url(url), name)
            _refuse_powerful(server, role.parameters["user"])
        else:
            role = _make_role(server, info, restore_id, name)
            if as_superuser:  # somebody confirmed that
                server.rows(f"ALTER ROLE {quoted(name)} SUPERUSER")
        owner = role.parameters["user"]
        server.create_database(name, owner, database_options(contents, server), comment)
        _refuse_shut_out(role)
        yield role, at_database(info, name)
    finally:
        try:
            # In a session that a cancel does not end; ours may be busy or lost.
            with serving(server.info, application_name="backstop tidy") as other:
                other.end_sessions(restore_session(restore_id))
                tidy(other, restore_id, name)
        except AppError as error:  # the next recovery tries again
            logger.warning("not tidied restore=%s error=%r", restore_id, error.in_words())


def try_to_sign_in(server: Server, info: Conninfo, restore_id: str, name: str) -> None:
    """Raise NotPossible if the loading role could not sign in to this server."""
    if loads_by_url(name, info.server):
        return
    try:
        role = _make_role(server, info, restore_id, name)
        with suppress(ConnectError):  # it may lack the right to this database; that is enough
            _refuse_shut_out(at_database(role, server.info.database))
    finally:
        closing.drop_role(server, name)


def refuse_new_roles_shut_out(info: Conninfo) -> None:
    """Raise NotPossible as `try_to_sign_in` does, but without creating a role.

    A role that does not exist is enough to see whether the server asks for a password.
    """
    if restore_url(info.server):
        return
    nobody = _as_role(info, f"{PREFIX}{secrets.token_hex(8)}", secrets.token_urlsafe(24))
    try:
        _refuse_shut_out(nobody)
    except NotPossible as error:
        if not _NOT_THERE.search(error.detail):
            raise


def _make_role(server: Server, info: Conninfo, restore_id: str, name: str) -> Conninfo:
    """Create a role for one restore; return how it signs in to the database of the same name."""
    password, lives = secrets.token_urlsafe(24), settings().restore_timeout + _SPARE
    server.create_role(name, password, COMMENT + restore_id, lives=lives)
    return _as_role(info, name, password)


def _as_role(info: Conninfo, name: str, password: str) -> Conninfo:
    # Parameters that the URL sets for its own role may not work for this one.
    parameters = {key: value for key, value in info.parameters.items() if key not in _OF_OUR_ROLE}
    changes = {"user": name, "dbname": name}
    return replace(info, parameters=parameters | changes, password=password)


def _refuse_shut_out(role: Conninfo) -> None:
    try:
        with open_session(role, application_name="backstop look"):
            return
    except ConnectError as error:
        if not is_refusal(error.detail):
            raise
        raise NotPossible(
            "the role that restores cannot sign in to this server",
            detail=error.detail,
            hint="Each restore creates a role that signs in with a password: let pg_hba.conf accept"
            " that from here (scram-sha-256 instead of peer or ident, for all users and"
            " databases), bypass a pooler, or set BACKSTOP_RESTORE_URL to a role of your own.",
        ) from error


def restore_url(server: str) -> str | None:
    """BACKSTOP_RESTORE_URL, if it is for this server: its own, or that of DATABASE_URL."""
    url = settings().restore_url
    is_its = url and server in (parse_url(url).server, address_in_environment().server)
    return url if is_its else None


def loads_by_url(working: str, server: str) -> bool:
    """Whether the role of BACKSTOP_RESTORE_URL loads; a throwaway server does not have it."""
    return bool(restore_url(server)) and not working.startswith(THROWAWAY)


def tidy(server: Server, restore_id: str, name: str) -> None:
    """Drop what a restore left behind, but nothing that we did not create."""
    # The process may have been killed before it wrote the comment, and code in the dump,
    # which runs as the owner, may have changed it.
    is_ours = server.owner_of(name) == name
    closing.lock_out(server, name)
    if is_ours or server.comment_of(name) in ("", COMMENT + restore_id):
        closing.drop_scratch(server, name)
    closing.drop_role(server, name)
    _tidied(restore_id)


def _tidied(restore_id: str) -> None:
    list_file(restore_id).unlink(missing_ok=True)
    with writing() as session:
        row = session.get(Restore, restore_id)
        if row is not None:
            row.tidied_at = now()


def keep_role(server: Server, role: str, name: str) -> list[str]:
    """The statements that keep the role of a restore as an owner that nobody can sign in as.

    The admin must not own what a foreign dump brought: functions that run with their owner's
    rights, and indexes that the server builds with them.
    """
    sees_all = server.ask("SELECT rolbypassrls FROM pg_roles WHERE rolname = %s", role)
    return [
        f"ALTER ROLE {quoted(role)} NOLOGIN {'NOBYPASSRLS' if sees_all else ''} PASSWORD NULL",
        f"ALTER ROLE {quoted(role)} RENAME TO {quoted(name)}",
        f"COMMENT ON ROLE {quoted(name)} IS 'owns what a restore could give to nobody'",
    ]


def sweep() -> None:
    """Clean up after restores that have ended, and drop replaced databases that have expired."""
    untidy = select(Restore).where(Restore.status != Status.PENDING, Restore.tidied_at.is_(None))
    rows = [(row.id, row.kind, row.working, row.database_id) for row in db.session.scalars(untidy)]
    expired = select(Restore).where(Restore.kept_until < now(), Restore.dropped_at.is_(None))
    expired_ids = [row.id for row in db.session.scalars(expired)]
    db.session.commit()
    for restore_id, kind, working, database_id in rows:
        if kind is Kind.IN_PLACE or working.startswith(THROWAWAY):  # nothing is left on that server
            _tidied(restore_id)
            continue
        try:
            database = find_database(database_id) or default_database()
            with (
                reached(database) as live,
                serving(server_of(kind, live), application_name="backstop sweep") as server,
            ):
                server.end_sessions(restore_session(restore_id))
                tidy(server, restore_id, working)
        except AppError as error:
            logger.warning("not tidied restore=%s error=%r", restore_id, error.in_words())
    for restore_id in expired_ids:
        try:
            drop_kept(restore_id)
        except AppError as error:
            logger.warning("not dropped restore=%s error=%r", restore_id, error.in_words())


def drop_kept(restore_id: str) -> None:
    """Drop the database that a restore has set aside; it cannot be undone any more.

    Raises Conflict, ConnectError, PostgresError.
    """
    with writing() as session:
        row = session.get_one(Restore, restore_id)
        kept, live = row.kept, live_of(row)
    if kept is not None:
        with live as info, serving(neighbour(info), application_name="backstop sweep") as server:
            server.drop_database(kept)
    with writing() as session:
        session.get_one(Restore, restore_id).dropped_at = now()
    logger.info("database dropped name=%r", kept)


def kept_until() -> datetime:
    """Until when a database that is replaced now is kept."""
    return now() + timedelta(seconds=settings().keep_replaced)


def _refuse_powerful(server: Server, role: str) -> None:
    sql = (
        "SELECT rolsuper OR rolcreaterole"
        " OR EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid)"
        " FROM pg_roles r WHERE rolname = %s"
    )
    if server.ask(sql, role) is not False:
        raise NotPossible(
            f"role {role} of BACKSTOP_RESTORE_URL must not restore",
            detail="It is a superuser, may create roles, is a member of another role, or does not"
            " exist: code in a dump would run with its rights.",
            hint=f"CREATE ROLE {quoted(role)} LOGIN NOSUPERUSER PASSWORD '…';",
        )


def lacks_icu_rules(contents: dict[str, Any], server: Version) -> bool:
    """Whether the database had ICU rules that a server of that version does not support."""
    properties = contents.get("properties") or {}
    return bool(properties.get("icuRules")) and server.major < _KNOWS_ICU_RULES


def database_options(contents: dict[str, Any], server: Server) -> dict[str, str]:
    """The options that create the database like the one that was dumped."""
    if not contents:
        return {}
    keys = {"ENCODING": "encoding", "LC_COLLATE": "collate", "LC_CTYPE": "ctype"}
    # A foreign dump may lack its locale.
    options = {name: contents[key] for name, key in keys.items() if contents[key]}
    provider = {"c": "libc", "i": "icu", "b": "builtin"}.get(contents["localeProvider"] or "")
    if provider and server.version.major >= 15:  # noqa: PLR2004
        options["LOCALE_PROVIDER"] = provider
        if provider != "libc":
            options[f"{provider.upper()}_LOCALE"] = contents["locale"]
    properties = contents.get("properties") or {}
    if properties.get("icuRules") and not lacks_icu_rules(contents, server.version):
        options["ICU_RULES"] = properties["icuRules"]
    tablespace = properties.get("tablespace")
    if tablespace != "pg_default" and tablespace in server.tablespaces():
        options["TABLESPACE"] = tablespace
    return options
