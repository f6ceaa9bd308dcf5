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

_OWNED_BY_ENTRY = {
    "FOREIGN DATA WRAPPER": "FOREIGN DATA WRAPPER",
    "SERVER": "SERVER",
    "PROCEDURAL LANGUAGE": "LANGUAGE",
}

# The statements of pg_dumpall, each read as a whole: texts in quotes may hold anything.
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

    Written anew from what is read there: nobody's comment becomes a statement.
    Without passwords. A role that is not in there is made without any rights.
    """
    wanted = set(missing)
    made: dict[str, str] = {name: f"CREATE ROLE {quoted(name)};" for name in sorted(wanted)}
    commented: list[str] = []
    granted: list[str] = []
    for statement in _STATEMENT.findall(kept):
        text = statement.strip()
        if (found := _ALTER_ROLE.fullmatch(text)) and _unquoted(found[1]) in wanted:
            name = _unquoted(found[1])
            made[name] = f"CREATE ROLE {quoted(name)} WITH {found[2]};"
        elif (found := _COMMENT_ON_ROLE.fullmatch(text)) and _unquoted(found[1]) in wanted:
            comment = literal(_text(found[2])).replace("\n", r"\n").replace("\r", r"\r")
            commented.append(f"COMMENT ON ROLE {quoted(_unquoted(found[1]))} IS {comment};")
        elif found := _GRANT_ROLE.fullmatch(text):
            role, member = _unquoted(found[1]), _unquoted(found[2])
            if member in wanted:
                options = [each for each in _OPTIONS if each in (found[3] or "")]
                more = f" WITH {', '.join(options)}" if options else ""
                granted.append(f"GRANT {quoted(role)} TO {quoted(member)}{more};")
    return [*made.values(), *commented, *dict.fromkeys(granted)]


def _text(written: str) -> str:
    """What a literal of pg_dumpall says: with an E before it, backslashes are doubled."""
    text = written.removeprefix("E")[1:-1].replace("''", "'")
    return text.replace("\\\\", "\\") if written.startswith("E") else text


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def owners(expected: Census, found: Census, roles: set[str], keeper: str) -> list[str]:
    """What gives each object to its owner, by the names as this server quotes them.

    What belonged to a role that is not there goes to `keeper`. Schemas come
    first, for an owner who is no superuser must be able to create in them.
    Sequences wait until no table has to change hands: they go with theirs.
    """
    wanted = {
        (kind, name): owner if owner in roles else keeper
        for kind, name, owner, _ in expected.get("owned", [])
        if name and owner
    }
    differing = [
        (kind, name, wanted[kind, name])
        for kind, name, owner, _ in found["owned"]
        if wanted.get((kind, name), owner) != owner
    ]
    differing.sort(key=lambda each: each[0] != "schema")
    has_tables = any(kind == "table" for kind, *_ in differing)
    return [
        f"ALTER {_WORDS.get(kind, kind.upper())} {name} OWNER TO {quoted(owner)}"
        for kind, name, owner in differing
        if not (kind == "sequence" and has_tables)
    ]


def owners_by_entries(entries: Iterable[Entry], roles: set[str]) -> Iterator[str]:
    """The same for what the census does not know: an entry tells its owner."""
    for entry in entries:
        if entry.kind in _OWNED_BY_ENTRY and entry.owner in roles:
            what = _OWNED_BY_ENTRY[entry.kind]
            yield f"ALTER {what} {quoted(entry.name)} OWNER TO {quoted(entry.owner)}"


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


def access(contents: Census, database: str, owner: str, roles: set[str]) -> Iterator[str]:
    """Who may do what with a database of `owner` that nobody else has rights on."""
    name = quoted(database)
    granted: list[Any] | None = contents.get("access")
    if granted is None:
        yield f"GRANT ALL ON DATABASE {name} TO {quoted(owner)}"
        yield f"GRANT CONNECT, TEMPORARY ON DATABASE {name} TO PUBLIC"
        return
    for role, privilege, grantable in granted:
        if not role or role in roles:
            whom = quoted(role) if role else "PUBLIC"
            option = " WITH GRANT OPTION" if grantable else ""
            yield f"GRANT {privilege} ON DATABASE {name} TO {whom}{option}"


def properties(contents: Census, database: str) -> Iterator[str]:
    """What else was set for the database as such, and can be set at last."""
    known = contents.get("properties") or {}
    if known.get("connectionLimit", -1) != -1:
        yield f"ALTER DATABASE {quoted(database)} CONNECTION LIMIT {int(known['connectionLimit'])}"
    if known.get("isTemplate"):
        yield f"ALTER DATABASE {quoted(database)} IS_TEMPLATE true"


def literal(text: str) -> str:
    """A text as SQL takes it, whatever is in it and whatever the session's settings."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def _variable(name: str) -> str:
    """A setting's name; that of an extension has two parts."""
    return ".".join(map(quoted, name.split(".")))
