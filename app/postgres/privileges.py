"""Find what only a superuser can create in an archive, before anything is loaded."""

import re
from collections.abc import Iterable, Iterator

from app.postgres.archive import Entry
from app.postgres.connection import unquoted
from app.postgres.databases import Server

_ALWAYS = frozenset(
    {
        "ACCESS METHOD", "FOREIGN DATA WRAPPER", "OPERATOR CLASS", "OPERATOR FAMILY",
        "PROCEDURAL LANGUAGE", "SHELL TYPE", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE",
        "TRANSFORM",
    }
)  # fmt: skip
_ROUTINES = ("FUNCTION", "PROCEDURE")
_LANGUAGE = re.compile(r'\n    LANGUAGE ("(?:[^"]|"")+"|\w+)([^\n]*)')
_SETS = re.compile(r"^    SET (\w+) TO ", re.MULTILINE)
_BY_TEXT = {
    "TYPE": re.compile(r"\(\s*INTERNALLENGTH = "),
    "CAST": re.compile(r" WITHOUT FUNCTION"),
    "AGGREGATE": re.compile(r"\bM?STYPE = internal\b"),
}


# The creator of a table that inherits must own its parent.
_INHERITS = re.compile(r"^INHERITS \((.+)\)", re.MULTILINE)
_PART = r'("(?:[^"]|"")+"|[\w$]+)'
_PARENT = re.compile(rf"{_PART}\.{_PART}")

_TRUSTED = "SELECT name FROM pg_available_extension_versions WHERE trusted"
_FOR_SUPERUSERS = "SELECT name FROM pg_settings WHERE context IN ('superuser', 'superuser-backend')"


def superuser_only(server: Server, entries: Iterable[Entry]) -> list[str]:
    """Kind and name of what only a superuser can create, apart from extensions."""
    trusted = {"sql", "plpgsql"} | {name for (name,) in server.rows(_TRUSTED)}
    barred = {name for (name,) in server.rows(_FOR_SUPERUSERS)}
    return list(_names(list(entries), trusted, barred))


def _names(entries: list[Entry], trusted: set[str], barred: set[str]) -> Iterator[str]:
    tables = {(entry.schema, entry.name) for entry in entries if entry.kind.endswith("TABLE")}
    for entry in entries:
        by_text = _BY_TEXT.get(entry.kind)
        if (
            entry.kind in _ALWAYS
            or (by_text is not None and by_text.search(entry.definition))
            or (entry.kind == "TABLE" and not _parents(entry.definition) <= tables)
            or (entry.kind in _ROUTINES and _is_barred(entry.definition, trusted, barred))
        ):
            yield f"{entry.kind} {entry.name}"


def _parents(definition: str) -> set[tuple[str, str]]:
    """The tables that one inherits from; those missing in the dump belong to an extension."""
    match = _INHERITS.search(definition)
    parents = _PARENT.findall(match[1]) if match else []
    return {(unquoted(schema), unquoted(name)) for schema, name in parents}


def _is_barred(definition: str, trusted: set[str], barred: set[str]) -> bool:
    """Whether it uses a language, or sets a parameter, that is for superusers alone."""
    head = definition.partition("\n    AS ")[0]
    language = _LANGUAGE.search(head)
    if language is None:
        return False
    return (
        language[1].strip('"') not in trusted
        or "LEAKPROOF" in language[2]
        or not barred.isdisjoint(_SETS.findall(head))
    )
