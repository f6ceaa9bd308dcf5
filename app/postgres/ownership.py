"""The statements that give a restored database back to whom it belonged.

Written from what the dump's own snapshot told, for a database that was loaded
by one role alone. All of them act on names and catalogs; none runs user code.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from app.postgres.archive import Entry
from app.postgres.census import Census
from app.postgres.connection import quoted

# As ALTER calls what pg_identify_object calls otherwise; ROUTINE takes an aggregate
# of all rows without its asterisk.
_WORDS = {
    "statistics object": "STATISTICS",
    "function": "ROUTINE",
    "procedure": "ROUTINE",
    "aggregate": "ROUTINE",
}

# Settings that are lists of quoted names (variable_is_guc_list_quote in pg_dump).
_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)


def roles_of(contents: Census) -> set[str]:
    """All roles that own something, were granted something, or have settings."""
    roles = owners_of(contents) | {role for role, *_ in contents.get("access") or [] if role}
    for *_, grants in contents.get("owned", []):
        roles |= {each.rpartition(": ")[0] for each in grants or []} - {"PUBLIC"}
    return roles | {role for role, _ in contents.get("settings", []) if role}


def owners_of(contents: Census) -> set[str]:
    """All roles that own something in it, or the database itself."""
    return {owner for _, _, owner, _ in contents.get("owned", []) if owner} | {
        each for each in [contents.get("owner")] if each
    }


def creating(missing: Iterable[str], kept: str) -> list[str]:
    """What makes these roles again, by the SQL of all roles that pg_dumpall wrote.

    Without passwords. A role that is not in there is made without any rights.
    """
    found: list[str] = []
    for name in missing:
        known = "|".join(map(re.escape, (name, quoted(name))))
        own = re.compile(rf"(CREATE|ALTER|COMMENT ON) ROLE ({known})[ ;]|GRANT .* TO ({known})[ ;]")
        lines = [line for line in kept.splitlines() if own.match(line)]
        found += lines or [f"CREATE ROLE {quoted(name)};"]
    return sorted(found, key=lambda line: line.startswith("GRANT"))


def owners(expected: Census, found: Census, roles: set[str]) -> list[str]:
    """What gives each object to its owner, by the names as this server quotes them.

    Sequences wait until no table has to change hands: they go with theirs.
    """
    wanted = {(kind, name): owner for kind, name, owner, _ in expected.get("owned", []) if name}
    differing = [
        (kind, name, wanted[kind, name])
        for kind, name, owner, _ in found["owned"]
        if wanted.get((kind, name), owner) != owner and wanted[kind, name] in roles
    ]
    has_tables = any(kind == "table" for kind, *_ in differing)
    return [
        f"ALTER {_WORDS.get(kind, kind.upper())} {name} OWNER TO {quoted(owner)}"
        for kind, name, owner in differing
        if not (kind == "sequence" and has_tables)
    ]


def owners_of_large_objects(entries: Iterable[Entry], roles: set[str]) -> Iterator[str]:
    """The same for large objects: an entry tells of one, or from 17 on of many."""
    for entry in entries:
        if entry.kind in ("BLOB", "BLOB METADATA") and entry.owner in roles:
            for number in filter(str.isdigit, entry.definition.replace("'", " ").split()):
                yield f"ALTER LARGE OBJECT {number} OWNER TO {quoted(entry.owner)}"


def settings(contents: Census, database: str, roles: set[str]) -> Iterator[str]:
    """What ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET had set.

    A list in quotes is taken as the server wrote it; to try any other value
    in our own session could end its rights (role, session_authorization).
    """
    for role, setting in contents.get("settings", []):
        name, _, value = setting.partition("=")
        if role and role not in roles:
            continue
        whom = f"ROLE {quoted(role)} IN DATABASE" if role else "DATABASE"
        change = f"ALTER {whom} {quoted(database)} SET {_variable(name)}"
        if name in _LISTS:
            kept = f"SELECT set_config({literal(name)}, {literal(value)}, true)"
            yield f"{kept}; {change} FROM CURRENT"
        else:
            yield f"{change} TO {literal(value)}"


def access(contents: Census, database: str, roles: set[str]) -> Iterator[str]:
    """Who may do what with the database itself."""
    granted: list[Any] | None = contents.get("access")
    if granted is None:
        return
    yield f"REVOKE ALL ON DATABASE {quoted(database)} FROM PUBLIC"
    for role, privilege, grantable in granted:
        if not role or role in roles:
            whom = quoted(role) if role else "PUBLIC"
            option = " WITH GRANT OPTION" if grantable else ""
            yield f"GRANT {privilege} ON DATABASE {quoted(database)} TO {whom}{option}"


def literal(text: str) -> str:
    """A text as SQL takes it, whatever is in it and whatever the session's settings."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def _variable(name: str) -> str:
    """A setting's name; that of an extension has two parts."""
    return ".".join(map(quoted, name.split(".")))
