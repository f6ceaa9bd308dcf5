"""The statements that give a restored database back to its owners.

They are written from the snapshot of the dump, for a database that one role loaded
alone. All of them act on names and catalogs; none runs user code.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from app.postgres.archive import Entry
from app.postgres.census import Census
from app.postgres.connection import quoted, unquoted

# Kinds that ALTER and pg_identify_object name differently; ROUTINE takes an aggregate
# over all rows without its asterisk.
_WORDS = {
    "statistics object": "STATISTICS",
    "function": "ROUTINE",
    "procedure": "ROUTINE",
    "aggregate": "ROUTINE",
}

_OWNED_BY_ENTRY = {
    "FOREIGN DATA WRAPPER": "FOREIGN DATA WRAPPER",
    "SERVER": "SERVER",
    "PROCEDURAL LANGUAGE": "LANGUAGE",
}

# A whole statement of pg_dumpall: quoted texts may contain anything.
_STATEMENT = re.compile(
    r"""(?:--[^\n]*|E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|[^;'"])+;""", re.DOTALL
)
_COMMENT_LINES = r"(?:--[^\n]*\s*)*"
_ROLE = r'("(?:[^"]|"")+"|[\w$]+)'
_ALTER_ROLE = re.compile(
    rf"{_COMMENT_LINES}ALTER ROLE {_ROLE} WITH"
    r" ((?:[A-Z]+ ?|CONNECTION LIMIT -?\d+ ?|VALID UNTIL '[^']*')+);"
)
_GRANT_ROLE = re.compile(
    rf"{_COMMENT_LINES}GRANT {_ROLE} TO {_ROLE}"
    rf"(?: WITH ([A-Z, ]*?))?(?: GRANTED BY {_ROLE})?;"
)
_COMMENT_ON_ROLE = re.compile(
    rf"{_COMMENT_LINES}COMMENT ON ROLE {_ROLE} IS (E?'(?:[^']|'')*');", re.DOTALL
)
_OPTIONS = ("ADMIN OPTION", "INHERIT FALSE", "SET FALSE")  # others are the default

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
    """All roles that own something, hold a grant, or have settings."""
    roles = owners_of(contents) | {role for role, *_ in contents.get("access") or [] if role}
    for *_, grants in contents.get("owned", []):
        roles |= {grant.rpartition(": ")[0] for grant in grants or []} - {"PUBLIC"}
    return roles | {role for role, _ in contents.get("settings", []) if role}


def owners_of(contents: Census) -> set[str]:
    """All roles that own the database or something in it."""
    return {owner for _, _, owner, _ in contents.get("owned", []) if owner} | {
        owner for owner in [contents.get("owner")] if owner
    }


def creating(missing: Iterable[str], kept: str) -> list[str]:
    """The statements that create these roles, from the SQL that pg_dumpall wrote.

    They are built from the parsed values, so that no comment becomes a statement, and
    have no passwords. A role that pg_dumpall did not list gets no rights.
    """
    wanted = set(missing)
    created: dict[str, str] = {name: f"CREATE ROLE {quoted(name)};" for name in sorted(wanted)}
    commented: list[str] = []
    granted: list[str] = []
    for statement in _STATEMENT.findall(kept):
        text = statement.strip()
        if (match := _ALTER_ROLE.fullmatch(text)) and unquoted(match[1]) in wanted:
            name = unquoted(match[1])
            created[name] = f"CREATE ROLE {quoted(name)} WITH {match[2]};"
        elif (match := _COMMENT_ON_ROLE.fullmatch(text)) and unquoted(match[1]) in wanted:
            comment = literal(_text(match[2])).replace("\n", r"\n").replace("\r", r"\r")
            commented.append(f"COMMENT ON ROLE {quoted(unquoted(match[1]))} IS {comment};")
        elif match := _GRANT_ROLE.fullmatch(text):
            role, member = unquoted(match[1]), unquoted(match[2])
            if member in wanted:
                options = [option for option in _OPTIONS if option in (match[3] or "")]
                more = f" WITH {', '.join(options)}" if options else ""
                granted.append(f"GRANT {quoted(role)} TO {quoted(member)}{more};")
    return [*created.values(), *commented, *dict.fromkeys(granted)]


def _text(written: str) -> str:
    """The value of a literal of pg_dumpall: with the prefix E, backslashes are doubled."""
    text = written.removeprefix("E")[1:-1].replace("''", "'")
    return text.replace("\\\\", "\\") if written.startswith("E") else text


def owners(expected: Census, actual: Census, roles: set[str], keeper: str) -> list[str]:
    """The statements that give each object to its owner, named as this server quotes it.

    `keeper` gets the objects of roles that do not exist. Schemas come first: an owner
    without superuser rights must be able to create objects in them. Sequences wait until
    no table has to change owners, because they follow their tables.
    """
    wanted = {
        (kind, name): owner if owner in roles else keeper
        for kind, name, owner, _ in expected.get("owned", [])
        if name and owner
    }
    differing = [
        (kind, name, wanted[kind, name])
        for kind, name, owner, _ in actual["owned"]
        if wanted.get((kind, name), owner) != owner
    ]
    differing.sort(key=lambda item: item[0] != "schema")
    has_tables = any(kind == "table" for kind, *_ in differing)
    return [
        f"ALTER {_WORDS.get(kind, kind.upper())} {name} OWNER TO {quoted(owner)}"
        for kind, name, owner in differing
        if not (kind == "sequence" and has_tables)
    ]


def owners_by_entries(entries: Iterable[Entry], roles: set[str]) -> Iterator[str]:
    """The same for objects that the census lacks: their entries name the owner."""
    for entry in entries:
        if entry.kind in _OWNED_BY_ENTRY and entry.owner in roles:
            what = _OWNED_BY_ENTRY[entry.kind]
            yield f"ALTER {what} {quoted(entry.name)} OWNER TO {quoted(entry.owner)}"


def owners_of_large_objects(entries: Iterable[Entry], roles: set[str]) -> Iterator[str]:
    """The same for large objects: an entry holds one, or from 17 on several."""
    for entry in entries:
        if entry.kind in ("BLOB", "BLOB METADATA") and entry.owner in roles:
            for number in filter(str.isdigit, entry.definition.replace("'", " ").split()):
                yield f"ALTER LARGE OBJECT {number} OWNER TO {quoted(entry.owner)}"


def settings(contents: Census, database: str, roles: set[str]) -> Iterator[str]:
    """The statements for the settings of ALTER DATABASE and ALTER ROLE IN DATABASE.

    Quoted lists are passed on as the server wrote them. Any other value is not tried in
    our own session, which could lose its rights that way (role, session_authorization).
    """
    for role, setting in contents.get("settings", []):
        name, _, value = setting.partition("=")
        if role and role not in roles:
            continue
        grantee = f"ROLE {quoted(role)} IN DATABASE" if role else "DATABASE"
        change = f"ALTER {grantee} {quoted(database)} SET {_variable(name)}"
        if name in _LISTS:
            configure = f"SELECT set_config({literal(name)}, {literal(value)}, true)"
            yield f"{configure}; {change} FROM CURRENT"
        else:
            yield f"{change} TO {literal(value)}"


def access(contents: Census, database: str, owner: str, roles: set[str]) -> Iterator[str]:
    """The grants on a database of `owner` on which nobody else has rights."""
    name = quoted(database)
    granted: list[Any] | None = contents.get("access")
    if granted is None:
        yield f"GRANT ALL ON DATABASE {name} TO {quoted(owner)}"
        yield f"GRANT CONNECT, TEMPORARY ON DATABASE {name} TO PUBLIC"
        return
    for role, privilege, grantable in granted:
        if not role or role in roles:
            grantee = quoted(role) if role else "PUBLIC"
            option = " WITH GRANT OPTION" if grantable else ""
            yield f"GRANT {privilege} ON DATABASE {name} TO {grantee}{option}"


def properties(contents: Census, database: str) -> Iterator[str]:
    """The other properties of the database, which can only be set at the end."""
    known = contents.get("properties") or {}
    if known.get("connectionLimit", -1) != -1:
        yield f"ALTER DATABASE {quoted(database)} CONNECTION LIMIT {int(known['connectionLimit'])}"
    if known.get("isTemplate"):
        yield f"ALTER DATABASE {quoted(database)} IS_TEMPLATE true"


def literal(text: str) -> str:
    """A text as an SQL literal, whatever it contains and however the session is set up."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def _variable(name: str) -> str:
    """The name of a setting in quotes; that of an extension has two parts."""
    return ".".join(map(quoted, name.split(".")))
