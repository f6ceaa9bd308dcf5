"""What the admin does in a new database before any code of a dump can run there.

It creates the extensions, and lends the role without rights what that needs of them, by
catalog and name, while nobody else has created anything. Afterwards the admin reads
only catalogs there.
"""

import json
from collections.abc import Iterable
from typing import Any

from app.errors import NotPossible, PostgresError
from app.postgres.connection import quoted
from app.postgres.databases import Server
from app.postgres.restore import Plan, creating_extension
from app.postgres.selection import Name

# Objects of extensions, with the privileges that a loading role needs on them.
_LENT = """
    WITH member AS (
        SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
    ), wanted AS (
        SELECT it ->> 0 AS schema, it ->> 1 AS name FROM jsonb_array_elements(%s::jsonb) it
    )
    SELECT CASE relkind WHEN 'S' THEN 'SELECT, UPDATE ON SEQUENCE'
                        ELSE 'SELECT, INSERT ON TABLE' END,
           format('%%I.%%I', nspname, relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    JOIN wanted ON (schema, name) = (nspname, relname)
    WHERE ('pg_class'::regclass, c.oid) IN (SELECT classid, objid FROM member)
    UNION ALL
    SELECT 'USAGE, CREATE ON SCHEMA', quote_ident(nspname) FROM pg_namespace
    WHERE ('pg_namespace'::regclass, oid) IN (SELECT classid, objid FROM member)
    UNION ALL
    SELECT 'USAGE ON FOREIGN DATA WRAPPER', quote_ident(fdwname) FROM pg_foreign_data_wrapper
    WHERE ('pg_foreign_data_wrapper'::regclass, oid) IN (SELECT classid, objid FROM member)
"""

# The owner of an extension can hide something in it: so the owners, and what is in each.
_EXTENSIONS = """
    SELECT COALESCE(jsonb_agg(jsonb_build_array(
               e.oid::bigint, extname, extowner::bigint,
               (SELECT string_agg(classid || '.' || objid, ' ' ORDER BY classid, objid)
                FROM pg_depend WHERE deptype = 'e' AND refobjid = e.oid
                  AND refclassid = 'pg_extension'::regclass)) ORDER BY e.oid), '[]')
    FROM pg_extension e
"""


def make_extensions(server: Server, plan: Plan, *, owner: str) -> None:
    """Create the schemas and extensions of a plan in the database of `server`.

    `owner` gets those that need no superuser, if it may create them: an extension cannot
    change its owner later. Raises NotPossible.
    """
    server.run_all(f"CREATE SCHEMA {quoted(entry.name)}" for entry in plan.schemas)
    for entry in plan.extensions:
        statement = creating_extension(entry)
        if entry.name not in plan.untrusted and _can_run(
            server, f"SET ROLE {quoted(owner)}; {statement}; RESET ROLE"
        ):
            continue
        try:
            server.rows(statement)
        except PostgresError as error:
            raise NotPossible(
                f"extension {entry.name} cannot be created in a new database on this server",
                detail=error.detail,
                hint=error.hint
                or "If only one database of a server may have it (pg_cron), restore in place.",
            ) from error


def _can_run(server: Server, statement: str) -> bool:
    try:
        server.rows(statement)
    except PostgresError:
        return False
    return True


def lend(server: Server, plan: Plan, tables: Iterable[Name], role: str) -> list[str]:
    """Let `role` load and count rows of extensions, and create objects in their schemas.

    `tables` belong to extensions and have rows in the dump. Returns the statements that
    revoke it.
    """
    wanted = {*tables, *((entry.schema, entry.name) for entry in plan.configuration)}
    rows = server.rows(_LENT, json.dumps(sorted(wanted)))
    grantee = quoted(role)
    server.run_all(f"GRANT {privileges} {name} TO {grantee}" for privileges, name in rows)
    server.run_all(
        f"ALTER SCHEMA {quoted(entry.name)} OWNER TO {grantee}" for entry in plan.schemas
    )
    return [f"REVOKE {privileges} {name} FROM {grantee}" for privileges, name in rows]


def lend_tablespaces(server: Server, wanted: set[str], role: str) -> tuple[list[str], list[str]]:
    """Let `role` use these tablespaces.

    Returns those that the server lacks, and the statements that revoke the others.
    """
    missing = sorted(wanted - server.tablespaces())
    if missing:  # pg_restore uses all tablespaces or none
        return missing, []
    grantee = quoted(role)
    server.run_all(f"GRANT CREATE ON TABLESPACE {quoted(name)} TO {grantee}" for name in wanted)
    return [], [f"REVOKE CREATE ON TABLESPACE {quoted(name)} FROM {grantee}" for name in wanted]


def extensions_of(server: Server) -> list[Any]:
    """The extensions of a database in a form that shows whether they were changed."""
    return list(server.ask(_EXTENSIONS))
