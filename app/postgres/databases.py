"""Make, name and drop databases and roles on a server, as its admin."""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg2
from psycopg2.errorcodes import INSUFFICIENT_PRIVILEGE

from app.errors import ConnectError, NotPossible, PostgresError
from app.pausing import pause
from app.postgres.census import STATEMENTS, Census
from app.postgres.connection import Session, hint_for, open_session, quoted, told
from app.postgres.conninfo import Conninfo
from app.postgres.encodings import python_codec
from app.postgres.ownership import literal
from app.postgres.room import WHERE, Disk, disk_of
from app.postgres.tools import Version

NAME_BYTES = 63  # what is longer, the server cuts off
_LONG = 3600.0  # seconds; to copy a template or to drop files takes its time
_BATCH = 100  # statements sent at once

# Nothing that a database brings along shall act on us: neither functions and operators
# in the place of ours (so the path comes first, by a statement that calls none), nor
# its event triggers (from 17 on), nor what is set for it or for our role.
_GUARDED = """
    SET search_path = pg_catalog, pg_temp;
    SELECT set_config(name, CASE WHEN name LIKE '%timeout' THEN '0' ELSE 'off' END, false)
    FROM pg_catalog.pg_settings
    WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                   'idle_in_transaction_session_timeout', 'idle_session_timeout',
                   'default_transaction_read_only', 'quote_all_identifiers')
       OR (name = 'event_triggers' AND (SELECT rolsuper FROM pg_catalog.pg_roles
                                        WHERE rolname = current_user))
"""


_END_SESSIONS = """
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = %s AND pid <> pg_backend_pid()
"""
_LOOK = "backstop look"
_MAINTENANCE = ("postgres", "template1")  # where one can be without being in the way
_SESSIONS_END = 10.0  # seconds
_TICK = 0.02

# Before 16 only a superuser may.
_MAY_GIVE_BYPASSRLS = """
    SELECT rolsuper OR rolbypassrls AND current_setting('server_version_num')::int >= 160000
    FROM pg_roles WHERE rolname = current_user
"""

_FORCED = """
    SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relrowsecurity AND relforcerowsecurity AND relowner = current_user::regrole
"""

# All but what belongs to extensions and those who sign in may not read.
_READABLE = """
    SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'S') AND (
        NOT EXISTS (SELECT FROM pg_depend
                    WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
        OR has_schema_privilege(n.oid, 'USAGE') AND
           CASE relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                        ELSE has_table_privilege(c.oid, 'SELECT') END)
"""


class Server:
    """What an admin does on a server, through one session to one of its databases."""

    def __init__(self, session: Session, info: Conninfo) -> None:
        self._session = session
        self._info = info

    @property
    def info(self) -> Conninfo:
        """How to sign in here again."""
        return self._info

    @property
    def version(self) -> Version:
        return self._session.server_version

    def ask(self, sql: str, *values: Any) -> Any:
        """The first value of a statement's first row. Raises PostgresError."""
        rows = self.rows(sql, *values)
        return rows[0][0] if rows else None

    def rows(self, sql: str, *values: Any, patience: float = _LONG) -> list[tuple[Any, ...]]:
        """The rows of a statement. Raises PostgresError."""
        try:
            return self._session.rows(sql, *values, patience=patience)
        except psycopg2.Error as error:
            text = told(error, self._info)
            kind = NotPossible if error.pgcode == INSUFFICIENT_PRIVILEGE else PostgresError
            raise kind(
                "the server refused a step of the restore", detail=text, hint=hint_for(text)
            ) from None

    def run_all(self, statements: Iterable[str]) -> None:
        """Run many statements, some at a time, each time all or nothing."""
        waiting = list(statements)
        for at in range(0, len(waiting), _BATCH):
            self.rows("; ".join(waiting[at : at + _BATCH]))

    def has_database(self, name: str) -> bool:
        return bool(self.ask("SELECT count(*) FROM pg_database WHERE datname = %s", name))

    def roles(self, condition: str = "true", *, encoding: str = "") -> set[str]:
        """The names of all roles, as a database of `encoding` reads them; else this one.

        A server keeps their bytes, and does not know in which encoding they were written.
        """
        sent = f"SELECT namesend(rolname) FROM pg_roles WHERE {condition}"  # noqa: S608 - ours
        codec = python_codec(encoding or self._session.connection.encoding)
        return {bytes(raw).decode(codec, "surrogateescape") for (raw,) in self.rows(sent)}

    def tablespaces(self) -> set[str]:
        """Those in which we may make something."""
        mine = "SELECT spcname FROM pg_tablespace WHERE has_tablespace_privilege(oid, 'CREATE')"
        return {"pg_default", *(name for (name,) in self.rows(mine))}

    def is_superuser(self) -> bool:
        return bool(self.ask("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))

    def may_create(self) -> tuple[bool, bool]:
        """Whether we may create databases, and roles."""
        sql = (
            "SELECT rolsuper OR rolcreatedb, rolsuper OR rolcreaterole FROM pg_roles"
            " WHERE rolname = current_user"
        )
        ((databases, roles),) = self.rows(sql)
        return bool(databases), bool(roles)

    def missing_extensions(self, names: Iterable[str]) -> list[str]:
        """Those that this server does not have."""
        available = {name for (name,) in self.rows("SELECT name FROM pg_available_extensions")}
        return sorted(set(names) - available)

    def untrusted_extensions(self, names: Iterable[str]) -> frozenset[str]:
        """Those of them that only a superuser may create here."""
        trusted = {
            name
            for (name,) in self.rows(
                "SELECT name FROM pg_available_extension_versions WHERE trusted OR NOT superuser"
            )
        }
        return frozenset(names) - trusted

    def roles_not_ours_to_be(self, names: Iterable[str], *, encoding: str) -> list[str]:
        """Those of them that exist and to which we may give nothing."""
        privilege = "SET" if self.version.major >= 16 else "MEMBER"  # noqa: PLR2004
        others = f"rolname <> 'pg_database_owner' AND NOT pg_has_role(oid, '{privilege}')"
        return sorted(self.roles(others, encoding=encoding).intersection(names))

    def free_space(self) -> int | None:
        """Bytes left where it keeps its databases; None where that cannot be seen from here."""
        disk = self.disk()
        return disk and disk.free

    def disk(self) -> Disk | None:
        """The disk with its databases; None where that cannot be seen from here."""
        return disk_of(*self.rows(WHERE)[0])

    def create_role(self, name: str, password: str, comment: str, *, lives: float) -> None:
        """A role that may sign in for so many seconds, and do nothing else.

        Only the password's hash is sent. Who signs in can change the password,
        but not until when it is valid.
        """
        hashed = self._session.encrypted(password, name)
        bypass = "BYPASSRLS" if self.ask(_MAY_GIVE_BYPASSRLS) else ""
        until = self.ask("SELECT (now() + make_interval(secs => %s))::text", lives)
        self.rows(
            f"CREATE ROLE {quoted(name)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE"
            f" NOREPLICATION {bypass} PASSWORD {literal(hashed)} VALID UNTIL {literal(until)}"
        )
        self.rows(f"COMMENT ON ROLE {quoted(name)} IS {literal(comment)}")
        if not self.is_superuser():  # to give it a database, and to take that back
            self.rows(f"GRANT {quoted(name)} TO CURRENT_USER")

    def create_database(self, name: str, owner: str, options: dict[str, str], comment: str) -> None:
        """An empty database; raises NotPossible where this server lacks its locale."""
        words = " ".join(f"{key} = {literal(value)}" for key, value in options.items())
        try:
            self._session.rows(
                f"CREATE DATABASE {quoted(name)} OWNER {quoted(owner)} TEMPLATE template0 {words}",
                patience=_LONG,
            )
        except psycopg2.Error as error:
            text = told(error, self._info)
            if re.search(r"locale|encoding|ICU|collation|provider", text):
                raise NotPossible(
                    "this server cannot make a database with the locale of the backup",
                    detail=text,
                    hint="Restore on a server that has it: install the locale there, or a build of"
                    " PostgreSQL with ICU.",
                ) from None
            raise PostgresError(
                "no new database could be made", detail=text, hint=hint_for(text)
            ) from None
        self.comment_on(name, comment)

    def comment_on(self, database: str, comment: str | None) -> None:
        """Write the comment of a database."""
        text = "NULL" if comment is None else literal(comment)
        self.rows(f"COMMENT ON DATABASE {quoted(database)} IS {text}")

    def end_sessions(self, application_name: str) -> None:
        """End all sessions of this name but ours, in any database, and see them gone.

        Raises PostgresError where they do not go.
        """
        deadline = time.monotonic() + _SESSIONS_END
        while self.ask(_END_SESSIONS, application_name):
            if time.monotonic() > deadline:
                raise PostgresError(
                    "sessions of a restore that is over do not end",
                    hint="pg_stat_activity shows them, by their application_name.",
                )
            pause(_TICK)

    def oid_of(self, name: str) -> int | None:
        """The number of a database, whatever it is called later; None if there is none."""
        number = self.ask("SELECT oid::bigint FROM pg_database WHERE datname = %s", name)
        return None if number is None else int(number)

    def owner_of(self, name: str) -> str:
        """Who owns a database; empty if there is none."""
        sql = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
        return str(self.ask(sql, name) or "")

    def comment_of(self, name: str) -> str:
        """What is written about a database; empty if nothing is."""
        sql = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
        return str(self.ask(sql, name) or "")

    def drop_database(self, name: str) -> None:
        """Drop a database, or a template, with all sessions in it, unless it is gone already."""
        if self.has_database(name):
            self.rows(f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false")
            self.rows(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    def drop_role(self, name: str) -> None:
        """Drop a role that owns nothing any more; one that is gone is no error."""
        self.rows(f"DROP ROLE IF EXISTS {quoted(name)}")

    def readable(self) -> set[tuple[str, str]]:
        """Schema and name of all tables and sequences but those of extensions that we may not."""
        return {(schema, name) for schema, name in self.rows(_READABLE)}

    @contextmanager
    def seeing_all_rows(self) -> Iterator[None]:
        """No policy hides rows of our own tables meanwhile; what is hidden still is refused."""
        forced = [f"{quoted(schema)}.{quoted(name)}" for schema, name in self.rows(_FORCED)]
        self.run_all(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY" for name in forced)
        self.rows("SET row_security = off")
        yield
        self.run_all(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY" for name in forced)

    def census(self, *parts: str) -> Census:
        """These parts of the census of the database that we are in."""
        return {part: self.ask(STATEMENTS[part]) for part in parts}


@contextmanager
def guarded_session(
    info: Conninfo, *, application_name: str, on_wait: Any = None
) -> Iterator[Session]:
    """A session on which nothing of a database acts. Raises ConnectError, AppError."""
    with open_session(info, application_name=application_name, on_wait=on_wait) as session:
        Server(session, info).rows(_GUARDED)
        yield session


@contextmanager
def serving(info: Conninfo, *, application_name: str, on_wait: Any = None) -> Iterator[Server]:
    """A Server through a session of its own. Raises ConnectError, AppError."""
    with guarded_session(info, application_name=application_name, on_wait=on_wait) as session:
        yield Server(session, info)


def maintenance(info: Conninfo) -> Conninfo:
    """The same server by another database than the one of `info`, which may be renamed.

    The first that lets us in. Raises ConnectError.
    """
    others = [each for each in _MAINTENANCE if each != info.database]
    for name in others[:-1]:
        with suppress(ConnectError), open_session(at_database(info, name), application_name=_LOOK):
            return at_database(info, name)
    return at_database(info, others[-1])


def neighbour(info: Conninfo) -> Conninfo:
    """The same where nothing is renamed: the database of `info` itself serves at last."""
    found = maintenance(info)
    with suppress(ConnectError), open_session(found, application_name=_LOOK):
        return found
    return info


def at_database(info: Conninfo, name: str) -> Conninfo:
    """The same server and user, another database."""
    return replace(info, parameters={**info.parameters, "dbname": name})


def cut_name(name: str, ending: str) -> str:
    """A name with this ending that the server does not cut off, in whole characters."""
    room = NAME_BYTES - len(ending.encode())
    return name.encode()[:room].decode(errors="ignore") + ending
