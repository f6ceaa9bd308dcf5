"""What the admin does in a new database before any code of a dump can have run there.

Extensions are made, and what the role without rights needs of them is lent to it by
catalog and name, while nobody else has made anything. Afterwards the admin reads
nothing but catalogs there.
"""

import json
from collections.abc import Iterable
from typing import Any

from app.errors import NotPossible, PostgresError
from app.postgres.connection import quoted
from app.postgres.databases import Server
from app.postgres.restore import Plan, creating_extension
from app.postgres.selection import Name

# Objects of extensions, by what a loading role needs of them.
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

# Whoever owns an extension can hide something in it: who they are, and what is in them.
_EXTENSIONS = """
    SELECT COALESCE(jsonb_agg(jsonb_build_array(
               e.oid::bigint, extname, extowner::bigint,
               (SELECT string_agg(classid || '.' || objid, ' ' ORDER BY classid, objid)
                FROM pg_depend WHERE deptype = 'e' AND refobjid = e.oid
                  AND refclassid = 'pg_extension'::regclass)) ORDER BY e.oid), '[]')
    FROM pg_extension e
"""


def make_extensions(server: Server, apart: Plan, *, owner: str) -> None:
    """Make the schemas and extensions of a plan in the database of `server`.

    Those that need no superuser belong to `owner`, where that role may make them:
    an extension cannot be given away later. Raises NotPossible.
    """
    server.run_all(f"CREATE SCHEMA {quoted(each.name)}" for each in apart.schemas)
    for entry in apart.extensions:
        statement = creating_extension(entry)
        if entry.name not in apart.untrusted and _is_made(
            server, f"SET ROLE {quoted(owner)}; {statement}; RESET ROLE"
        ):
            continue
        try:
            server.rows(statement)
        except PostgresError as error:
            raise NotPossible(
                f"extension {entry.name} cannot be made in a new database of this server",
                detail=error.detail,
                hint=error.hint
                or "If only one database of a server may have it (pg_cron), restore in place.",
            ) from error


def _is_made(server: Server, statement: str) -> bool:
    try:
        server.rows(statement)
    except PostgresError:
        return False
    return True


def lend(server: Server, apart: Plan, tables: Iterable[Name], role: str) -> list[str]:
    """Let `role` load and count the rows of extensions, and make what belongs in them.

    `tables` are those of extensions whose rows are in the dump. Returns the
    statements that take it back.
    """
    wanted = {*tables, *((each.schema, each.name) for each in apart.configuration)}
    rows = server.rows(_LENT, json.dumps(sorted(wanted)))
    whom = quoted(role)
    server.run_all(f"GRANT {privileges} {name} TO {whom}" for privileges, name in rows)
    server.run_all(f"ALTER SCHEMA {quoted(each.name)} OWNER TO {whom}" for each in apart.schemas)
    return [f"REVOKE {privileges} {name} FROM {whom}" for privileges, name in rows]


def lend_tablespaces(server: Server, wanted: set[str], role: str) -> tuple[list[str], list[str]]:
    """Let `role` use these tablespaces.

    Returns those that are not to be had, and the statements that take the others back.
    """
    missing = sorted(wanted - server.tablespaces())
    if missing:  # pg_restore knows all or none
        return missing, []
    whom = quoted(role)
    server.run_all(f"GRANT CREATE ON TABLESPACE {quoted(each)} TO {whom}" for each in wanted)
    return [], [f"REVOKE CREATE ON TABLESPACE {quoted(each)} FROM {whom}" for each in wanted]


def extensions_of(server: Server) -> list[Any]:
    """What tells whether the extensions of a database are those that they were."""
    return list(server.ask(_EXTENSIONS))
