"""Ask a server what it is, and what our role may read of a database."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2

from app.errors import PostgresError
from app.postgres.connection import Session, hint_for, open_session, told
from app.postgres.conninfo import Conninfo
from app.postgres.poolers import is_pooled
from app.postgres.tools import Version

_PATIENCE = 7.0  # seconds for each answer; connecting has its own limit
_SHOWN = 5  # names of what may not be read

# Nothing of the database's own may stand in for what we call: its schemas are out of the path.
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

# The very things that pg_dump locks and reads. Members of extensions are left to
# them, but for the tables that they have marked as configuration.
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

# From 18 on there is a function that knows; pg_read_all_data covers them in some.
_MAY_READ_LARGE_OBJECT = "has_largeobject_privilege(oid, 'SELECT')"
_MAY_READ_LARGE_OBJECT_BEFORE_18 = """
    pg_has_role(lomowner, 'USAGE') OR current_setting('lo_compat_privileges')::bool
    OR EXISTS (SELECT 1 FROM aclexplode(lomacl) a WHERE a.privilege_type = 'SELECT'
               AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
"""


@dataclass(frozen=True)
class Inspection:
    """What a server says of itself."""

    version: Version
    clock_ahead: float  # seconds by which its clock is ahead of ours
    role: str
    is_superuser: bool
    database: str  # as the server calls it
    database_size: int  # bytes
    is_pooled: bool  # whether a pooler stands in between


@dataclass(frozen=True)
class Barred:
    """How many things of one kind there are, and which of them a dump cannot read."""

    all: int
    barred: int
    names: tuple[str, ...]  # the first of them, quoted as SQL wants it


NOTHING = Barred(0, 0, ())


@dataclass(frozen=True)
class Rights:
    """What the role may not read of everything that pg_dump would dump."""

    tables: Barred = NOTHING
    sequences: Barred = NOTHING
    schemas: Barred = NOTHING  # without USAGE, though there are tables or sequences in them
    row_security: Barred = NOTHING  # tables of which the role does not see all rows
    large_objects: Barred = NOTHING


def inspect(info: Conninfo) -> Inspection:
    """Ask the server what it is. Raises ConnectError, PostgresError; never waits for long."""
    with _asking(info) as session:
        before = time.time()
        found = session.ask(_SERVER, patience=_PATIENCE)
        ours = (before + time.time()) / 2
        pooled = is_pooled(session)
    return Inspection(
        version=session.server_version,
        clock_ahead=found["clock"] - ours,
        role=found["role"],
        is_superuser=found["superuser"],
        database=found["database"],
        database_size=found["size"],
        is_pooled=pooled,
    )


def inspect_rights(info: Conninfo) -> Rights:
    """Ask what the role may not read of the database; raises as `inspect`."""
    with _asking(info) as session:
        knows = session.server_version.major >= 18  # noqa: PLR2004
        found = session.ask(
            _RIGHTS.replace(
                "{may_read_large_object}",
                _MAY_READ_LARGE_OBJECT if knows else _MAY_READ_LARGE_OBJECT_BEFORE_18,
            ).replace("{shown}", str(_SHOWN)),
            patience=_PATIENCE,
        )
    return Rights(**{kind: _barred(**counted) for kind, counted in (found or {}).items()})


def _barred(*, all: int, barred: int, names: list[str]) -> Barred:  # noqa: A002 - as in the answer
    return Barred(all, barred, tuple(names))


@contextmanager
def _asking(info: Conninfo) -> Iterator[Session]:
    """A transaction that reads; errors in our words."""
    with open_session(info, application_name="backstop doctor") as session:
        try:
            session.ask("BEGIN READ ONLY", patience=_PATIENCE)
            session.ask(_PREPARE, patience=_PATIENCE)
            yield session
        except psycopg2.Error as error:
            text = told(error, info)
            raise PostgresError(
                "the server did not answer what it was asked", detail=text, hint=hint_for(text)
            ) from None
