"""The SQL that makes a role which may read everything that a dump needs, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.postgres.connection import quoted
from app.postgres.conninfo import Conninfo
from app.postgres.encodings import printable
from app.postgres.inspection import read_only_session
from app.postgres.ownership import literal

READ_ALL_DATA = 14  # the first major version with pg_read_all_data
_LARGE_OBJECT_DEFAULTS = 18  # the first with default privileges for large objects

_CONTENTS = """
    WITH schemas AS (
        SELECT oid, nspname, nspowner, nspacl FROM pg_namespace
        WHERE left(nspname, 3) <> 'pg_' AND nspname <> 'information_schema'
    ), owners AS (
        SELECT datdba AS oid FROM pg_database WHERE datname = current_database()
        UNION SELECT nspowner FROM schemas
        UNION SELECT relowner FROM pg_class WHERE relnamespace IN (SELECT oid FROM schemas)
    )
    SELECT current_database(),
           EXISTS (SELECT FROM pg_roles WHERE rolname = %s),
           ARRAY(SELECT nspname::text FROM schemas ORDER BY 1),
           ARRAY(SELECT nspname::text FROM schemas
                 WHERE EXISTS (SELECT FROM aclexplode(nspacl)
                               WHERE grantee = 0 AND privilege_type = 'CREATE') ORDER BY 1),
           ARRAY(SELECT rolname::text FROM pg_roles JOIN owners USING (oid)
                 WHERE left(rolname, 3) <> 'pg_' ORDER BY 1),
           EXISTS (SELECT FROM pg_class WHERE relrowsecurity),
           ARRAY(SELECT rolname::text FROM pg_roles
                 WHERE oid IN (SELECT lomowner FROM pg_largeobject_metadata) ORDER BY 1)
"""

_GRANT_LARGE_OBJECTS = (
    "DECLARE number oid; BEGIN FOR number IN SELECT oid FROM pg_catalog.pg_largeobject_metadata"
    " LOOP EXECUTE pg_catalog.format('GRANT SELECT ON LARGE OBJECT %s TO %s', number, {role});"
    " END LOOP; END"
)


@dataclass(frozen=True)
class _Contents:
    """What decides which rights a dump of the database needs."""

    database: str
    has_role: bool
    schemas: list[str]
    open_schemas: list[str]  # in which everybody may create objects
    owners: list[str]  # of the database, its schemas, tables and sequences
    has_row_security: bool
    large_object_owners: list[str]


def least_privilege_sql(info: Conninfo, role: str, *, per_schema: bool = False) -> str:
    """The SQL for this database and its server's version, to be run there by a superuser.

    It has no password. From PostgreSQL 14 on, it grants pg_read_all_data, unless it is to
    grant what is in each schema, as on older servers: that covers no other database and no
    password hashes, but only the future objects of the present owners. Raises ConnectError,
    PostgresError.
    """
    with read_only_session(info, "backstop rights") as session:
        contents = _Contents(*session.rows(_CONTENTS, role)[0])
        major = session.server_version.major
    everywhere = major >= READ_ALL_DATA and not per_schema
    lines = [
        *_role(contents, role),
        *(_all_data(role) if everywhere else _each_schema(contents, role)),
        *_row_security(contents, role),
        *_large_objects(contents, role, major),
        *_outside(contents, role),
    ]
    return "\n".join(lines) + "\n"


def granting_large_objects(role: str) -> str:
    """The statement that lets the role read all large objects that exist."""
    body = _GRANT_LARGE_OBJECTS.replace("{role}", literal(quoted(role)))
    return f"DO {literal(body)};" if "$" in role else f"DO $${body}$$;"


def _role(contents: _Contents, role: str) -> Iterator[str]:
    yield f"-- Run this as a superuser in database {_shown(contents.database)}."
    if contents.has_role:
        yield "-- The role exists already, and keeps what else it may do."
    else:
        yield f"CREATE ROLE {quoted(role)} LOGIN;"
        yield f"-- Set its password in psql, which sends a hash: \\password {_shown(role)}"
    yield f"GRANT CONNECT ON DATABASE {quoted(contents.database)} TO {quoted(role)};"


def _all_data(role: str) -> Iterator[str]:
    yield ""
    yield "-- Read all tables and sequences, also future ones. This counts in each database that"
    yield "-- the role can connect to, and for the password hashes in pg_authid."
    yield f"GRANT pg_read_all_data TO {quoted(role)};"


def _each_schema(contents: _Contents, role: str) -> Iterator[str]:
    yield ""
    yield "-- Read all tables and sequences. Run this again when there are new schemas or owners."
    for schema in map(quoted, contents.schemas):
        yield f"GRANT USAGE ON SCHEMA {schema} TO {quoted(role)};"
        yield f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {quoted(role)};"
        yield f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {quoted(role)};"
    yield "-- The same for what their owners will create."
    for owner in contents.owners:
        for right in ("USAGE ON SCHEMAS", "SELECT ON TABLES", "SELECT ON SEQUENCES"):
            yield _by_default(owner, right, role)


def _row_security(contents: _Contents, role: str) -> Iterator[str]:
    if contents.has_row_security:
        yield ""
        yield "-- Policies hide rows, and pg_dump stops rather than leave them out. BYPASSRLS shows"
        yield "-- all rows of the tables that the role may read, and grants nothing else."
        yield f"ALTER ROLE {quoted(role)} BYPASSRLS;"


def _large_objects(contents: _Contents, role: str, major: int) -> Iterator[str]:
    if not contents.large_object_owners:
        return
    yield ""
    yield "-- Large objects are granted one by one."
    yield granting_large_objects(role)
    if major < _LARGE_OBJECT_DEFAULTS:
        yield "-- Run this again when there are new ones."
        return
    yield "-- The same for those that their owners will create."
    for owner in contents.large_object_owners:
        yield _by_default(owner, "SELECT ON LARGE OBJECTS", role)


def _outside(contents: _Contents, role: str) -> Iterator[str]:
    if contents.open_schemas:
        yield ""
        yield "-- Everybody may create objects in these schemas, and so may this role. Unless an"
        yield "-- application needs that, take it away:"
        for schema in contents.open_schemas:
            yield f"-- REVOKE CREATE ON SCHEMA {_shown(schema)} FROM PUBLIC;"
    yield ""
    yield "-- To confine the role to this database and to one machine, put this before the other"
    yield "-- lines of pg_hba.conf:"
    yield f"-- hostssl {_shown(contents.database)} {_shown(role)} ADDRESS/32 scram-sha-256"
    yield f"-- host all {_shown(role)} all reject"


def _by_default(owner: str, right: str, role: str) -> str:
    return f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(owner)} GRANT {right} TO {quoted(role)};"


def _shown(name: str) -> str:
    """A name in a comment, where a line break would begin a statement."""
    return printable(quoted(name))
