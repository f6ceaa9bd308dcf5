"""Keep everybody else out of a database that was loaded, and drop it whatever was done to it.

The role that loads a dump owns the database meanwhile, and so does the code in the dump:
it may have granted rights, changed its own password, prepared a transaction, or made the
database a template, which cannot be dropped.
"""

import time

from app.errors import PostgresError
from app.postgres.connection import quoted
from app.postgres.databases import Server, at_database, serving
from app.postgres.ownership import literal

_PATIENCE = 10.0  # seconds
_TICK = 0.02

_GRANTEES = """
    SELECT DISTINCT rolname
    FROM pg_database, aclexplode(datacl) JOIN pg_roles r ON r.oid = grantee
    WHERE datname = %s AND rolname <> current_user
"""
# Up to 14, a role can grant itself to others.
_MEMBERS = """
    SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = member
    WHERE pg_get_userbyid(roleid) = %s AND r.rolname <> current_user
"""
_END_SESSIONS = """
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE (datname = %s OR usename = %s) AND pid <> pg_backend_pid()
"""
# Grants on objects of the role that loaded this database: a dump is loaded without
# grants, so code in it granted whatever goes beyond the default.
_GRANTED = """
    WITH own (kind, name, part, owner, acl, usual, class, object) AS (
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
               format('%%I.%%I', nspname, relname), '', relowner, relacl,
               acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner),
               'pg_class'::regclass, c.oid
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        UNION ALL
        SELECT 'TABLE', format('%%I.%%I', nspname, relname), format(' (%%I)', attname), relowner,
               attacl, acldefault('c', relowner), NULL, NULL
        FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        JOIN pg_namespace n ON n.oid = relnamespace
        UNION ALL
        SELECT 'ROUTINE', oid::regprocedure::text, '', proowner, proacl,
               acldefault('f', proowner), 'pg_proc'::regclass, oid
        FROM pg_proc
        UNION ALL
        SELECT 'TYPE', format('%%I.%%I', nspname, typname), '', typowner, typacl,
               acldefault('T', typowner), 'pg_type'::regclass, t.oid
        FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
        UNION ALL
        SELECT 'SCHEMA', quote_ident(nspname), '', nspowner, nspacl,
               acldefault('n', nspowner), 'pg_namespace'::regclass, oid
        FROM pg_namespace
        UNION ALL
        SELECT 'FOREIGN SERVER', quote_ident(srvname), '', srvowner, srvacl,
               acldefault('S', srvowner), 'pg_foreign_server'::regclass, oid
        FROM pg_foreign_server
        UNION ALL
        SELECT 'LARGE OBJECT', oid::text, '', lomowner, lomacl,
               acldefault('L', lomowner), 'pg_largeobject'::regclass, oid
        FROM pg_largeobject_metadata
    )
    SELECT format('REVOKE %%s%%s ON %%s %%s FROM %%s CASCADE', privilege_type, part, kind, name,
                  CASE grantee WHEN 0 THEN 'PUBLIC'
                               ELSE quote_ident(pg_get_userbyid(grantee)) END)
    FROM own LEFT JOIN pg_init_privs i
        ON i.classoid = class AND i.objoid = object AND i.objsubid = 0,
    LATERAL (
        SELECT grantee, privilege_type FROM aclexplode(acl)
        EXCEPT SELECT grantee, privilege_type FROM aclexplode(COALESCE(initprivs, usual))
    ) granted
    WHERE acl IS NOT NULL AND grantee <> owner
      AND pg_get_userbyid(owner) IN (%s, 'pg_database_owner')
"""
_DEPENDS = """
    SELECT DISTINCT datname FROM pg_shdepend JOIN pg_database d ON d.oid = dbid
    WHERE refclassid = 'pg_authid'::regclass AND datallowconn
      AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)
"""


def lock_out(server: Server, role: str) -> None:
    """Let nobody sign in as a role that was made for a restore, or be a member of it."""
    for (rules,) in server.rows("SELECT rolsuper FROM pg_roles WHERE rolname = %s", role):
        more = "NOSUPERUSER" if rules else ""
        server.rows(f"ALTER ROLE {quoted(role)} NOLOGIN {more} PASSWORD NULL")
    server.run_all(
        f"REVOKE {quoted(role)} FROM {quoted(member)}" for (member,) in server.rows(_MEMBERS, role)
    )


def close(server: Server, database: str, role: str) -> None:
    """Make a database ours alone: no grants on it, no sessions in it, no sessions of `role`.

    Raises PostgresError if the sessions do not end.
    """
    name = quoted(database)
    server.rows(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
    grantees = [quoted(role) for (role,) in server.rows(_GRANTEES, database)]
    server.run_all(f"REVOKE ALL ON DATABASE {name} FROM {role}" for role in ("PUBLIC", *grantees))
    end_sessions(server, database, role)
    _roll_back_prepared(server, database)


def revoke_grants(server: Server, role: str) -> None:
    """Revoke what was granted on the objects that `role` loaded, in the database of `server`."""
    server.run_all(statement for (statement,) in server.rows(_GRANTED, role))


def end_sessions(server: Server, database: str, role: str) -> None:
    """End all sessions in a database and all sessions of a role, and wait until they are gone."""
    deadline = time.monotonic() + _PATIENCE
    while server.ask(_END_SESSIONS, database, role):
        if time.monotonic() > deadline:
            raise PostgresError(
                f'sessions in database "{database}" do not end',
                hint="pg_stat_activity shows them.",
            )
        time.sleep(_TICK)


def drop_scratch(server: Server, database: str) -> None:
    """Drop a database that was loaded, whatever code in the dump did to prevent that."""
    if not server.has_database(database):
        return
    prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = %s"
    if server.ask(prepared, database):
        name = quoted(database)
        server.rows(f"ALTER DATABASE {name} RESET ALL")
        server.rows(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        inside = at_database(server.info, database)
        with serving(inside, application_name="backstop tidy") as there:
            _roll_back_prepared(there, database)
    server.drop_database(database)


def _roll_back_prepared(server: Server, database: str) -> None:
    """Run in that database itself: a transaction can only end where it began."""
    gids = server.rows("SELECT gid FROM pg_prepared_xacts WHERE database = %s", database)
    for (gid,) in gids:
        server.rows(f"ROLLBACK PREPARED {literal(gid)}")


def drop_role(server: Server, role: str) -> None:
    """Drop a role of ours, with what it owns or was granted in other databases."""
    for (database,) in server.rows(_DEPENDS, role):
        inside = at_database(server.info, database)
        with serving(inside, application_name="backstop tidy") as there:
            there.rows(f"DROP OWNED BY {quoted(role)}")
    if role in server.roles():  # its grants on the server itself
        server.rows(f"DROP OWNED BY {quoted(role)}")
    server.drop_role(role)
