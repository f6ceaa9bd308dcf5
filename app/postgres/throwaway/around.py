"""What a dump needs around its database: its roles and its tablespaces.

Nobody can sign in as one of these roles. Tablespaces are folders in the cluster
itself. So owners, grants and places are as the dump wants them.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from app.errors import PostgresError
from app.postgres.archive import Entry
from app.postgres.connection import quoted
from app.postgres.databases import Server

_NAME = r'(?:"(?:[^"]|"")+"|[^\s",;()]+)'
_NAMES = rf"({_NAME}(?:\s*,\s*{_NAME})*)"
# Where a statement names roles, in each kind of entry that does.
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
    """All roles that own something in an archive, or are granted something."""
    found: set[str] = set()
    for entry in entries:
        found.add(entry.owner)
        for pattern in _NAMED.get(entry.kind, ()):
            for names in re.findall(pattern, entry.definition):
                found.update(_unquoted(names))
    return found - {""}


def make_roles(server: Server, names: Iterable[str]) -> None:
    """Make roles that are not there yet, without any right."""
    wanted = set(names) - server.roles()
    server.run_all(
        f"CREATE ROLE {quoted(name)} NOLOGIN"
        for name in sorted(wanted)
        if not name.startswith("pg_")  # the server's own, of another version
    )


def empower_roles(server: Server, entries: Iterable[Entry], kept: str) -> None:
    """Let roles be what they were: superusers, members of others. Only where nothing can leave.

    `kept` is the SQL of all roles of the server that was dumped, as far as it could be
    read. Who owns what only a superuser may own was one, whatever is known.
    """
    told = [line.partition(" GRANTED BY ")[0].rstrip(";") for line in kept.splitlines()]
    owners = {each.owner for each in entries if each.kind in _OF_SUPERUSERS} - {""}
    powers = [f"ALTER ROLE {quoted(name)} SUPERUSER" for name in sorted(owners)]
    for statement in (*filter(_ROLES.match, told), *powers):
        with suppress(PostgresError):  # there already, or of another version
            server.rows(statement)


def make_tablespaces(server: Server, entries: Iterable[Entry], *more: str) -> None:
    """Make the tablespaces that a dump names, each in the cluster itself."""
    names = ({each.tablespace for each in entries} | set(more)) - _USUAL_TABLESPACES
    if names:
        server.rows("SET allow_in_place_tablespaces = on")
    for name in sorted(names):
        server.rows(f"CREATE TABLESPACE {quoted(name)} LOCATION ''")


def _unquoted(names: str) -> Iterator[str]:
    for name in re.findall(_NAME, names):
        if name.startswith('"'):
            yield name[1:-1].replace('""', '"')
        elif name.upper() not in _NO_ROLES:
            yield name
