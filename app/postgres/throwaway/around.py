"""Create what a dump needs around its database: roles and tablespaces.

Nobody can sign in as one of these roles, and tablespaces are folders inside the cluster.
So owners, grants and tablespaces are as in the dump.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from app.errors import PostgresError
from app.postgres.archive import Entry
from app.postgres.connection import quoted, unquoted
from app.postgres.databases import Server

_NAME = r'(?:"(?:[^"]|"")+"|[^\s",;()]+)'
_NAMES = rf"({_NAME}(?:\s*,\s*{_NAME})*)"
# Where each kind of entry names roles.
_NAMED = {
    "ACL": (rf"\b(?:TO|FROM) (?:GROUP )?{_NAMES}", rf"\bAUTHORIZATION {_NAMES}"),
    "DEFAULT ACL": (rf"\bFOR ROLE {_NAMES}", rf"\b(?:TO|FROM) {_NAMES}"),
    "POLICY": (rf"\bTO {_NAMES}(?=\s+(?:USING|WITH CHECK)|;|\s*$)",),
    "USER MAPPING": (rf"\bFOR {_NAMES} SERVER",),
}
_ROLES = re.compile(r"(CREATE|ALTER) ROLE |GRANT .+ TO ")
_OF_SUPERUSERS = ("EVENT TRIGGER", "FOREIGN DATA WRAPPER", "PUBLICATION")
_NO_ROLES = {"PUBLIC", "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE"}
_USUAL_TABLESPACES = {"", "pg_default", "pg_global"}


def roles_named_in(entries: Iterable[Entry]) -> set[str]:
    """All roles that own something in an archive or are granted something."""
    roles: set[str] = set()
    for entry in entries:
        roles.add(entry.owner)
        for pattern in _NAMED.get(entry.kind, ()):
            for names in re.findall(pattern, entry.definition):
                roles.update(_role_names(names))
    return roles - {""}


def make_roles(server: Server, names: Iterable[str]) -> None:
    """Create the roles that do not exist yet, without any rights."""
    wanted = set(names) - server.roles()
    server.run_all(
        f"CREATE ROLE {quoted(name)} NOLOGIN"
        for name in sorted(wanted)
        if not name.startswith("pg_")  # built-in roles of another version
    )


def empower_roles(server: Server, entries: Iterable[Entry], roles_sql: str) -> None:
    """Make roles superusers and members of others as before. Only for an isolated server.

    `roles_sql` creates the roles of the server that was dumped, as far as it could be read.
    The owner of an object that only a superuser may own becomes a superuser in any case.
    """
    statements = [line.partition(" GRANTED BY ")[0].rstrip(";") for line in roles_sql.splitlines()]
    owners = {entry.owner for entry in entries if entry.kind in _OF_SUPERUSERS} - {""}
    powers = [f"ALTER ROLE {quoted(name)} SUPERUSER" for name in sorted(owners)]
    for statement in (*filter(_ROLES.match, statements), *powers):
        with suppress(PostgresError):  # it exists, or is of another version
            server.rows(statement)


def make_tablespaces(server: Server, entries: Iterable[Entry], *more: str) -> None:
    """Create the tablespaces that a dump names, each inside the cluster."""
    names = ({entry.tablespace for entry in entries} | set(more)) - _USUAL_TABLESPACES
    if names:
        server.rows("SET allow_in_place_tablespaces = on")
    for name in sorted(names):
        server.rows(f"CREATE TABLESPACE {quoted(name)} LOCATION ''")


def _role_names(names: str) -> Iterator[str]:
    for name in re.findall(_NAME, names):
        if name.upper() not in _NO_ROLES:
            yield unquoted(name)
