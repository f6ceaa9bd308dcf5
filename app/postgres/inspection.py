"""Ask a server for its version and settings, and for our role's rights in a database."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2

from app.errors import PostgresError
from app.postgres.connection import Session, open_session, server_error
from app.postgres.conninfo import Conninfo
from app.postgres.poolers import is_pooled
from app.postgres.tools import Version

_PATIENCE = 7.0  # seconds for each answer; connecting has its own limit
_SHOWN = 5  # names of objects that cannot be read

# No object of the database can replace one that we use: its schemas are not in the path.
_PREPARE = f"""
    SELECT pg_catalog.set_config('search_path', '', true),
           pg_catalog.set_config('statement_timeout', '{_PATIENCE - 1:.0f}s', true)
"""

_SERVER = """
    SELECT json_build_object(
        'clock', extract(epoch FROM clock_timestamp()),
        'role', current_user,
        'database', current_database(),
        'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
        'size', pg_database_size(current_database())
    )
"""

# The objects that pg_dump locks and reads: of extensions, their configuration tables alone.
_RIGHTS = """
    WITH relations AS (
        SELECT c.oid, c.relkind, c.relnamespace, format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'S')
          AND left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'
          AND (NOT EXISTS (SELECT 1 FROM pg_depend d
                           WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                             AND d.deptype = 'e')
               OR EXISTS (SELECT 1 FROM pg_extension e WHERE c.oid = ANY (e.extconfig)))
        ORDER BY n.nspname, c.relname
    ), things (kind, name, is_barred) AS (
        SELECT 'tables', name, NOT has_table_privilege(oid, 'SELECT')
        FROM relations WHERE relkind <> 'S'
        UNION ALL
        SELECT 'sequences', name, NOT has_sequence_privilege(oid, 'SELECT')
        FROM relations WHERE relkind = 'S'
        UNION ALL
        SELECT 'schemas', format('%I', nspname), NOT has_schema_privilege(oid, 'USAGE')
        FROM pg_namespace WHERE oid IN (SELECT relnamespace FROM relations)
        UNION ALL
        SELECT 'row_security', name, row_security_active(oid)
        FROM relations WHERE relkind = 'r'
        UNION ALL
        SELECT 'large_objects', oid::text, NOT ({may_read_large_object})
        FROM pg_largeobject_metadata
    )
    SELECT json_object_agg(kind, json_build_object(
        'all', number, 'barred', barred,
        'names', ARRAY(SELECT name FROM things t
                       WHERE barred > 0 AND t.kind = counts.kind AND is_barred LIMIT {shown})
    ))
    FROM (SELECT kind, count(*), count(*) FILTER (WHERE is_barred)
          FROM things GROUP BY kind) AS counts (kind, number, barred)
"""

# 18 has a function for it.
_MAY_READ_LARGE_OBJECT = "has_largeobject_privilege(oid, 'SELECT')"
_MAY_READ_LARGE_OBJECT_BEFORE_18 = """
    pg_has_role(lomowner, 'USAGE') OR current_setting('lo_compat_privileges')::bool
    OR EXISTS (SELECT 1 FROM aclexplode(lomacl) a WHERE a.privilege_type = 'SELECT'
               AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
"""


@dataclass(frozen=True)
class Inspection:
    """Facts about a server and a database."""

    version: Version
    clock_ahead: float  # seconds by which its clock is ahead of ours
    role: str
    is_superuser: bool
    database: str  # as the server calls it
    database_size: int  # bytes
    is_pooled: bool  # whether there is a pooler in between


@dataclass(frozen=True)
class Barred:
    """How many objects of one kind there are, and which of them a dump cannot read."""

    all: int
    barred: int
    names: tuple[str, ...]  # the first of them, quoted as in SQL


NOTHING = Barred(0, 0, ())


@dataclass(frozen=True)
class Rights:
    """The objects of a dump that the role cannot read."""

    tables: Barred = NOTHING
    sequences: Barred = NOTHING
    schemas: Barred = NOTHING  # without USAGE, with tables or sequences
    row_security: Barred = NOTHING  # tables whose rows the role does not all see
    large_objects: Barred = NOTHING


def inspect(info: Conninfo) -> Inspection:
    """Ask the server for the facts, briefly. Raises ConnectError, PostgresError."""
    with read_only_session(info, "backstop doctor") as session:
        began = time.time()
        facts = session.ask(_SERVER, patience=_PATIENCE)
        ours = (began + time.time()) / 2
        pooled = is_pooled(session)
    return Inspection(
        version=session.server_version,
        clock_ahead=facts["clock"] - ours,
        role=facts["role"],
        is_superuser=facts["superuser"],
        database=facts["database"],
        database_size=facts["size"],
        is_pooled=pooled,
    )


def inspect_rights(info: Conninfo) -> Rights:
    """Ask what the role cannot read of the database; raises as `inspect`."""
    with read_only_session(info, "backstop doctor") as session:
        has_function = session.server_version.major >= 18  # noqa: PLR2004
        counts = session.ask(
            _RIGHTS.replace(
                "{may_read_large_object}",
                _MAY_READ_LARGE_OBJECT if has_function else _MAY_READ_LARGE_OBJECT_BEFORE_18,
            ).replace("{shown}", str(_SHOWN)),
            patience=_PATIENCE,
        )
    return Rights(
        **{
            kind: Barred(count["all"], count["barred"], tuple(count["names"]))
            for kind, count in (counts or {}).items()
        }
    )


@contextmanager
def read_only_session(info: Conninfo, application_name: str) -> Iterator[Session]:
    """A session in a read-only transaction, in which no statement takes long.

    Its settings end with the transaction: a pooler may give the session to others.
    Raises ConnectError, PostgresError.
    """
    with open_session(info, application_name=application_name) as session:
        try:
            session.ask("BEGIN READ ONLY", patience=_PATIENCE)
            session.ask(_PREPARE, patience=_PATIENCE)
            yield session
        except psycopg2.Error as error:
            message = "the server did not answer"
            raise server_error(PostgresError, message, error, info) from None
