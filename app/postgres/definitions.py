"""Compare what a dump defines with what its restore has made, text by text.

pg_dump wrote how each object is defined into the archive, in the snapshot of the dump.
Asked again of the restored database, the same pg_dump writes the same. Code in a dump
that changes what belongs to others, or adds to it, is found by this.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import PostgresError
from app.postgres import command
from app.postgres.archive import Entry, read_entries
from app.postgres.connection import hint_for
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server
from app.postgres.restore import LAST, NEVER
from app.postgres.tools import Toolchain

# What is not a definition, or is made only after the comparison.
_NOT_COMPARED = frozenset(
    {
        "ACL", "BLOB", "BLOB COMMENTS", "BLOB METADATA", "BLOBS", "DATABASE",
        "DATABASE PROPERTIES", "DEFAULT ACL", "ENCODING", "EVENT TRIGGER",
        "MATERIALIZED VIEW DATA", "PUBLICATION", "PUBLICATION TABLE",
        "PUBLICATION TABLES IN SCHEMA", "SEARCHPATH", "SEQUENCE SET", "STATISTICS DATA",
        "STDSTRINGS", "SUBSCRIPTION", "SUBSCRIPTION TABLE", "TABLE DATA",
    }
)  # fmt: skip
# What is made after the comparison, or never: whatever there is of it was made by code.
_NOT_YET = ("DEFAULT ACL", *LAST, *NEVER)
# Of these, pg_dump tells nothing. To be there, and kept up by all who write, is enough.
_INVALID = """
    SELECT format('index %I.%I', nspname, relname)
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE NOT (indisvalid AND indisready AND indislive) AND relkind = 'i' ORDER BY 1
"""
# What a new database brings along, so that pg_dump does not always tell of it.
_BROUGHT = (("SCHEMA", "public"), ("EXTENSION", "plpgsql"))
_SPEAKS_OF_THE_REST = re.compile(
    r"(DATABASE|EVENT TRIGGER|EXTENSION|LARGE OBJECT|PUBLICATION|SUBSCRIPTION|SCHEMA public\Z)"
)
_CAST_ARRAY = re.compile(
    r"\(ARRAY\[((?:'(?:[^']|'')*'|[^\[\]'])*)\]\)"
    r"::((?:[\w. ]|\"[^\"]*\")+(?:\(\d+(?:,\d+)?\))?)\[\]"
)
_PARTS = re.compile(r"'(?:[^']|'')*'|[(),]|[^'(),]+")
_NAME = r'(?:\w+|"(?:[^"]|"")+")'
# What stands before a column: a relation of the query, or its alias.
_RELATIONS = re.compile(
    rf"(?:\b(?:FROM|JOIN|UPDATE|INTO|USING)\s+\(*(?:ONLY )?|,\s+\(*)"
    rf"(?=(?:{_NAME}\.)?({_NAME})(?:\s+(?:AS )?({_NAME}))?)|\)\s+(?:AS )?(?=({_NAME}))"
)
# Not behind a cast: there it is the schema of a type, and that may be somebody's domain.
_QUALIFIER = re.compile(
    rf'(?<![\w".])(?<!::)(^ +FROM \(*|JOIN \(*|UPDATE |INTO )?({_NAME})\.(?={_NAME}(?![\w"(.]))',
    re.MULTILINE,
)
# Debian's 15 notes a number with each column, which no other pg_dump leaves out.
_DEBIANS_OWN = re.compile(
    r"^ALTER TABLE ONLY .* ALTER COLUMN .* SET \(pg_attver=\d+\);\n|, pg_attver=\d+", re.MULTILINE
)

Definitions = dict[tuple[str, str, str], list[str]]


@dataclass(frozen=True)
class Running:
    """What a program is given while it runs."""

    target: Path  # what it writes; removed at the end
    environment: Mapping[str, str]
    timeout: float
    on_tick: Callable[[], None]
    on_start: command.Start


def dump_definitions(toolchain: Toolchain, info: Conninfo, running: Running) -> list[Entry]:
    """What is in a database now, as pg_dump writes it; no rows. Raises PostgresError."""
    argv: list[str | Path] = [
        toolchain.pg_dump, "-F", "c", "-Z", "0", "--schema-only", "--no-password",
        "-f", running.target, "-d", info.dsn(application_name=None),
    ]  # fmt: skip
    try:
        outcome = command.run(
            argv,
            environment=running.environment,
            timeout=running.timeout,
            secrets=info.secrets,
            watch=command.Watch(running.on_start, on_tick=running.on_tick),
        )
        if outcome.status != 0:
            words = outcome.last_words
            raise PostgresError(
                "what was restored could not be compared", detail=words, hint=hint_for(words)
            )
        with running.target.open("rb") as file:
            return read_entries(file)
    except TimeoutError:
        raise PostgresError(
            f"to compare what was restored took longer than {running.timeout:.0f} s"
        ) from None
    finally:
        running.target.unlink(missing_ok=True)


def definitions(entries: Iterable[Entry]) -> Definitions:
    """What the entries define, by kind, schema and name."""
    found: Definitions = {}
    for entry in entries:
        if _is_compared(entry):
            key = (entry.kind, entry.schema, entry.name)
            found.setdefault(key, []).append(entry.definition)
    return found


def added_by_code(server: Server, there: Iterable[Entry], grants: Iterable[Entry]) -> Iterator[str]:
    """What a dump cannot have made by the time it is compared, in words.

    Default privileges that its `grants` will make anyway are not named: the script of an
    extension may have made them already.
    """
    expected = {_spaced(entry.definition) for entry in grants if entry.kind == "DEFAULT ACL"}
    for entry in there:
        if entry.kind in _NOT_YET and _spaced(entry.definition) not in expected:
            yield f"{entry.kind.lower()} {entry.name} was made while the dump was loaded"
    for (index,) in server.rows(_INVALID):
        yield f"{index} was made while the dump was loaded, and is not valid"


def _spaced(definition: str) -> str:
    """Before 17, pg_dump writes two spaces where another version writes one."""
    return " ".join(definition.split())


def _is_compared(entry: Entry) -> bool:
    if entry.kind in ("COMMENT", "SECURITY LABEL"):
        return not _SPEAKS_OF_THE_REST.match(entry.name)
    return entry.kind not in _NOT_COMPARED and (entry.kind, entry.name) not in _BROUGHT


def changes(expected: Definitions, found: Definitions, *, same_version: bool) -> Iterator[str]:
    """What two databases do not agree on, in words."""
    for key in sorted(expected.keys() | found.keys()):
        kind, schema, name = key
        told = f"{kind.lower()} {f'{schema}.' if schema else ''}{name}"
        if key not in found:
            yield f"{told} is missing"
        elif key not in expected:
            yield f"{told} was not in the backup"
        elif _texts(expected[key], same_version) != _texts(found[key], same_version):
            yield f"{told} is not defined as it was"


def _texts(definitions: list[str], same_version: bool) -> list[str]:
    texts = map(settled, definitions)
    return sorted(texts if same_version else map(_without_qualifiers, texts))


def _without_qualifiers(definition: str) -> str:
    """From 16 on, a query of one table names its columns without it."""
    relations = {name for found in _RELATIONS.findall(definition) for name in found}

    def shorter(found: re.Match[str]) -> str:
        return "" if found[2] in relations and not found[1] else found[0]

    return _QUALIFIER.sub(shorter, definition)


def settled(definition: str) -> str:
    """The text as it is once it was read and printed again; most texts are so at once.

    A cast of an array is printed as casts of its elements from then on, and a
    table that inherits lists its columns in another order.
    """
    settled = _CAST_ARRAY.sub(_cast_elements, _DEBIANS_OWN.sub("", definition))
    if "\nINHERITS (" in settled:
        return "\n".join(sorted(line.rstrip(",") for line in settled.splitlines()))
    return settled


def _cast_elements(found: re.Match[str]) -> str:
    elements = ", ".join(f"({each})::{found[2]}" for each in _elements(found[1]))
    return f"ARRAY[{elements}]"


def _elements(listed: str) -> Iterator[str]:
    """What stands between the commas that are neither in quotes nor in parentheses."""
    depth, element = 0, ""
    for part in _PARTS.findall(listed):
        depth += (part == "(") - (part == ")")
        if part == "," and not depth:
            yield element.strip()
            element = ""
        else:
            element += part
    yield element.strip()
