"""List the databases of a server."""

import time
from dataclasses import dataclass, replace

import psycopg2

from app.postgres.connection import Session
from app.postgres.conninfo import Conninfo
from app.postgres.inspection import read_only_session

_SIZES_LIMIT = 20.0  # seconds for the sizes of all databases together

# Databases that servers and providers keep for themselves.
_INTERNAL = frozenset(
    {
        "postgres", "_aiven", "_dodb", "alloydbadmin", "azure_maintenance", "azure_sys",
        "cloudsqladmin", "rdsadmin",
    }
)  # fmt: skip

# A connection limit of -2 marks a database whose DROP DATABASE was interrupted.
_DATABASES = """
    SELECT oid, datname, pg_get_userbyid(datdba), has_database_privilege(oid, 'CONNECT')
    FROM pg_database
    WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2
    ORDER BY datname
"""
_SIZE = "SAVEPOINT size; SELECT pg_database_size(%s::oid)"


@dataclass(frozen=True)
class ServerDatabase:
    """A database of a server, as its catalogs describe it."""

    name: str
    owner: str
    size: int | None  # bytes; None where the server does not say
    may_connect: bool  # by the rights of our role; pg_hba.conf may still refuse
    is_internal: bool  # by its name: of the server itself or of its provider


def list_databases(info: Conninfo) -> list[ServerDatabase]:
    """The databases of the server that accept connections, without templates, by name.

    `info` leads to any one of them. Raises ConnectError, PostgresError.
    """
    # The catalogs are shared, but each name has the encoding of where it was created.
    raw = replace(info, parameters={**info.parameters, "client_encoding": "SQL_ASCII"})
    with read_only_session(raw, "backstop discovery") as session:
        deadline = time.monotonic() + _SIZES_LIMIT
        return [
            ServerDatabase(
                name,
                owner,
                size=_size(session, oid) if time.monotonic() < deadline else None,
                may_connect=bool(may_connect),
                is_internal=name in _INTERNAL,
            )
            for oid, name, owner, may_connect in session.rows(_DATABASES)
        ]


def _size(session: Session, oid: int) -> int | None:
    """None where we may not ask, it takes too long, or the database is gone."""
    try:
        size: int | None = session.ask(_SIZE, oid)
    except psycopg2.Error:
        session.rows("ROLLBACK TO SAVEPOINT size")  # raises where the session is lost
        return None
    return size
