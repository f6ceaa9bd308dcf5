"""Create, rename and drop databases and roles on a server, as its admin."""

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
from app.postgres.connection import (
    Rows,
    Session,
    error_text,
    guarded_session,
    open_session,
    quoted,
    server_error,
)
from app.postgres.conninfo import Conninfo
from app.postgres.encodings import python_codec
from app.postgres.ownership import literal
from app.postgres.room import WHERE, Disk, disk_of
from app.postgres.tools import Version

NAME_BYTES = 63  # the server cuts off longer names
_LONG = 3600.0  # seconds; copying a template and dropping files take time
_BATCH = 100  # statements sent at once

_END_SESSIONS = """
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = %s AND pid <> pg_backend_pid()
"""
_LOOK = "backstop look"
_MAINTENANCE = ("postgres", "template1")  # a session in them blocks nobody
_SESSIONS_END = 10.0  # seconds
_TICK = 0.02

# Before 16 only a superuser can.
_MAY_GIVE_BYPASSRLS = """
    SELECT rolsuper OR rolbypassrls AND current_setting('server_version_num')::int >= 160000
    FROM pg_roles WHERE rolname = current_user
"""

_FORCED = """
    SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relrowsecurity AND relforcerowsecurity AND relowner = current_user::regrole
"""

# All but objects of extensions that the role cannot read.
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
    """The work of an admin on a server, through one session to one of its databases."""

    def __init__(self, session: Session, info: Conninfo) -> None:
        self._session = session
        self._info = info

    @property
    def info(self) -> Conninfo:
        """How to sign in to this database again."""
        return self._info

    @property
    def version(self) -> Version:
        return self._session.server_version

    def ask(self, sql: str, *values: Any) -> Any:
        """The first value of a statement's first row. Raises PostgresError."""
        rows = self.rows(sql, *values)
        return rows[0][0] if rows else None

    def rows(self, sql: str, *values: Any, patience: float = _LONG) -> Rows:
        """The rows of a statement. Raises PostgresError."""
        try:
            return self._session.rows(sql, *values, patience=patience)
        except psycopg2.Error as error:
            kind = NotPossible if error.pgcode == INSUFFICIENT_PRIVILEGE else PostgresError
            message = "the server refused a step of the restore"
            raise server_error(kind, message, error, self._info) from None

    def run_all(self, statements: Iterable[str]) -> None:
        """Run many statements in batches, each of which is all or nothing."""
        waiting = list(statements)
        for at in range(0, len(waiting), _BATCH):
            self.rows("; ".join(waiting[at : at + _BATCH]))

    def has_database(self, name: str) -> bool:
        return self.oid_of(name) is not None

    def roles(self, condition: str = "true", *, encoding: str = "") -> set[str]:
        """The names of all roles, read in `encoding` or in that of this database.

        A server keeps their bytes, but not the encoding in which they were written.
        """
        sent = f"SELECT namesend(rolname) FROM pg_roles WHERE {condition}"  # noqa: S608 - ours
        codec = python_codec(encoding or self._session.connection.encoding)
        return {bytes(raw).decode(codec, "surrogateescape") for (raw,) in self.rows(sent)}

    def tablespaces(self) -> set[str]:
        """The tablespaces in which we may create objects."""
        mine = "SELECT spcname FROM pg_tablespace WHERE has_tablespace_privilege(oid, 'CREATE')"
        return {"pg_default", *(name for (name,) in self.rows(mine))}

    def is_superuser(self) -> bool:
        return bool(self.ask("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))

    def may_create(self) -> tuple[bool, bool]:
        """Whether we may create databases, and roles."""
        rights = "rolsuper OR rolcreatedb, rolsuper OR rolcreaterole"
        ((databases, roles),) = self.rows(
            f"SELECT {rights} FROM pg_roles WHERE rolname = current_user"  # noqa: S608 - ours
        )
        return bool(databases), bool(roles)

    def missing_extensions(self, names: Iterable[str]) -> list[str]:
        """Those of the extensions that this server lacks."""
        available = {name for (name,) in self.rows("SELECT name FROM pg_available_extensions")}
        return sorted(set(names) - available)

    def untrusted_extensions(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the extensions that only a superuser may create here."""
        rows = self.rows(
            "SELECT name FROM pg_available_extension_versions WHERE trusted OR NOT superuser"
        )
        return frozenset(names) - {name for (name,) in rows}

    def roles_not_ours_to_be(self, names: Iterable[str], *, encoding: str) -> list[str]:
        """Those of the roles that exist, and to which we cannot give objects."""
        privilege = "SET" if self.version.major >= 16 else "MEMBER"  # noqa: PLR2004
        others = f"rolname <> 'pg_database_owner' AND NOT pg_has_role(oid, '{privilege}')"
        return sorted(self.roles(others, encoding=encoding).intersection(names))

    def free_space(self) -> int | None:
        """Free bytes on the disk with its databases; None where that is not visible from here."""
        disk = self.disk()
        return disk and disk.free

    def disk(self) -> Disk | None:
        """The disk with its databases; None where that is not visible from here."""
        return disk_of(*self.rows(WHERE)[0])

    def create_role(self, name: str, password: str, comment: str, *, lives: float) -> None:
        """Create a role without rights that can sign in for so many seconds.

        Only the hash of the password is sent. The role can change its password, but not
        the time until which it is valid.
        """
        hashed = self._session.encrypted(password, name)
        bypass = "BYPASSRLS" if self.ask(_MAY_GIVE_BYPASSRLS) else ""
        until = self.ask("SELECT (now() + make_interval(secs => %s))::text", lives)
        self.rows(
            f"CREATE ROLE {quoted(name)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE"
            f" NOREPLICATION {bypass} PASSWORD {literal(hashed)} VALID UNTIL {literal(until)}"
        )
        self.rows(f"COMMENT ON ROLE {quoted(name)} IS {literal(comment)}")
        if not self.is_superuser():  # to give it a database and take it back
            self.rows(f"GRANT {quoted(name)} TO CURRENT_USER")

    def create_database(self, name: str, owner: str, options: dict[str, str], comment: str) -> None:
        """Create an empty database. Raises NotPossible where this server lacks its locale."""
        words = " ".join(f"{key} = {literal(value)}" for key, value in options.items())
        try:
            self._session.rows(
                f"CREATE DATABASE {quoted(name)} OWNER {quoted(owner)} TEMPLATE template0 {words}",
                patience=_LONG,
            )
        except psycopg2.Error as error:
            text = error_text(error, self._info)
            if re.search(r"locale|encoding|ICU|collation|provider", text):
                raise NotPossible(
                    "this server lacks the locale or encoding of the backup",
                    detail=text,
                    hint="Restore on a server that has it: install the locale there, or a build of"
                    " PostgreSQL with ICU.",
                ) from None
            message = "the new database could not be created"
            raise server_error(PostgresError, message, error, self._info) from None
        self.comment_on(name, comment)

    def comment_on(self, database: str, comment: str | None) -> None:
        """Set the comment of a database."""
        text = "NULL" if comment is None else literal(comment)
        self.rows(f"COMMENT ON DATABASE {quoted(database)} IS {text}")

    def end_sessions(self, application_name: str) -> None:
        """End all sessions of this name but ours, in any database, and wait for their end.

        Raises PostgresError where they do not end.
        """
        deadline = time.monotonic() + _SESSIONS_END
        while self.ask(_END_SESSIONS, application_name):
            if time.monotonic() > deadline:
                raise PostgresError(
                    "sessions of an earlier restore do not end",
                    hint="pg_stat_activity shows them, by their application_name.",
                )
            pause(_TICK)

    def oid_of(self, name: str) -> int | None:
        """The oid of a database, which no rename changes; None if there is none."""
        number = self.ask("SELECT oid::bigint FROM pg_database WHERE datname = %s", name)
        return None if number is None else int(number)

    def owner_of(self, name: str) -> str:
        """The owner of a database; empty if there is none."""
        sql = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
        return str(self.ask(sql, name) or "")

    def comment_of(self, name: str) -> str:
        """The comment of a database; empty if it has none."""
        sql = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
        return str(self.ask(sql, name) or "")

    def drop_database(self, name: str) -> None:
        """Drop a database or template and end its sessions; it may be gone already."""
        if self.has_database(name):
            self.rows(f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false")
            self.rows(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    def drop_role(self, name: str) -> None:
        """Drop a role that owns nothing; it may be gone already."""
        self.rows(f"DROP ROLE IF EXISTS {quoted(name)}")

    def readable(self) -> set[tuple[str, str]]:
        """Schema and name of all tables and sequences but unreadable ones of extensions."""
        return {(schema, name) for schema, name in self.rows(_READABLE)}

    @contextmanager
    def seeing_all_rows(self) -> Iterator[None]:
        """Let no policy hide rows of our own tables; reading rows still hidden is refused."""
        forced = [f"{quoted(schema)}.{quoted(name)}" for schema, name in self.rows(_FORCED)]
        self.run_all(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY" for name in forced)
        self.rows("SET row_security = off")
        yield
        self.run_all(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY" for name in forced)

    def census(self, *parts: str) -> Census:
        """These parts of the census of our database."""
        return {part: self.ask(STATEMENTS[part]) for part in parts}


@contextmanager
def serving(info: Conninfo, *, application_name: str, on_wait: Any = None) -> Iterator[Server]:
    """A Server with its own session. Raises ConnectError, PostgresError."""
    with guarded_session(info, application_name=application_name, on_wait=on_wait) as session:
        yield Server(session, info)


def maintenance(info: Conninfo) -> Conninfo:
    """Another database of the server, so that the one of `info` can be renamed.

    The first that lets us in. Raises ConnectError.
    """
    others = [name for name in _MAINTENANCE if name != info.database]
    for name in others[:-1]:
        with suppress(ConnectError), open_session(at_database(info, name), application_name=_LOOK):
            return at_database(info, name)
    return at_database(info, others[-1])


def neighbour(info: Conninfo) -> Conninfo:
    """As `maintenance`, but falls back on the database of `info`."""
    other = maintenance(info)
    with suppress(ConnectError), open_session(other, application_name=_LOOK):
        return other
    return info


def at_database(info: Conninfo, name: str) -> Conninfo:
    """Another database, with the same server and user."""
    return replace(info, parameters={**info.parameters, "dbname": name})


def cut_name(name: str, ending: str) -> str:
    """A name cut to the server's limit, in whole characters, with this ending."""
    most = NAME_BYTES - len(ending.encode())
    return name.encode()[:most].decode(errors="ignore") + ending
