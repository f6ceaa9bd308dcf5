"""Compare the definitions in a dump with those of the restored database, text by text.

pg_dump wrote the definition of each object into the archive, in the snapshot of the dump.
Run on the restored database, the same pg_dump writes the same text. The comparison finds
code in a dump that changes or adds objects.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.errors import PostgresError
from app.postgres.archive import Entry, read_entries
from app.postgres.connection import hint_for
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server
from app.postgres.restore import LAST, NEVER
from app.postgres.supervision import Supervision
from app.postgres.tools import Toolchain
from app.programs import command

# Not definitions, or created only after the comparison.
_NOT_COMPARED = frozenset(
    {
        "ACL", "BLOB", "BLOB COMMENTS", "BLOB METADATA", "BLOBS", "DATABASE",
        "DATABASE PROPERTIES", "DEFAULT ACL", "ENCODING", "EVENT TRIGGER",
        "MATERIALIZED VIEW DATA", "PUBLICATION", "PUBLICATION TABLE",
        "PUBLICATION TABLES IN SCHEMA", "SEARCHPATH", "SEQUENCE SET", "STATISTICS DATA",
        "STDSTRINGS", "SUBSCRIPTION", "SUBSCRIPTION TABLE", "TABLE DATA",
    }
)  # fmt: skip
# Created after the comparison or never, so code in the dump created what exists of it.
_NOT_YET = ("DEFAULT ACL", *LAST, *NEVER)
# pg_dump does not write these, but they exist and every write maintains them.
_INVALID = """
    SELECT format('index %I.%I', nspname, relname)
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE NOT (indisvalid AND indisready AND indislive) AND relkind = 'i' ORDER BY 1
"""
# Part of every new database, so pg_dump does not always write it.
_BUILT_IN = (("SCHEMA", "public"), ("EXTENSION", "plpgsql"))
_ABOUT_NOT_COMPARED = re.compile(
    r"(DATABASE|EVENT TRIGGER|EXTENSION|LARGE OBJECT|PUBLICATION|SUBSCRIPTION|SCHEMA public\Z)"
)
_CAST_ARRAY = re.compile(
    r"\(ARRAY\[((?:'(?:[^']|'')*'|[^\[\]'])*)\]\)"
    r"::((?:[\w. ]|\"[^\"]*\")+(?:\(\d+(?:,\d+)?\))?)\[\]"
)
_PARTS = re.compile(r"'(?:[^']|'')*'|[(),]|[^'(),]+")
_NAME = r'(?:\w+|"(?:[^"]|"")+")'
# The qualifier of a column: a relation of the query, or its alias.
_RELATIONS = re.compile(
    rf"(?:\b(?:FROM|JOIN|UPDATE|INTO|USING)\s+\(*(?:ONLY )?|,\s+\(*)"
    rf"(?=(?:{_NAME}\.)?({_NAME})(?:\s+(?:AS )?({_NAME}))?)|\)\s+(?:AS )?(?=({_NAME}))"
)
# Not after a cast: there it is the schema of a type, which may be a domain of the database.
_QUALIFIER = re.compile(
    rf'(?<![\w".])(?<!::)(^ +FROM \(*|JOIN \(*|UPDATE |INTO )?({_NAME})\.(?={_NAME}(?![\w"(.]))',
    re.MULTILINE,
)
# PostgreSQL 15 of Debian stores a number with each column; no other pg_dump leaves it out.
_DEBIANS_OWN = re.compile(
    r"^ALTER TABLE ONLY .* ALTER COLUMN .* SET \(pg_attver=\d+\);\n|, pg_attver=\d+", re.MULTILINE
)

Definitions = dict[tuple[str, str, str], list[str]]


def dump_definitions(
    toolchain: Toolchain, info: Conninfo, target: Path, supervision: Supervision
) -> list[Entry]:
    """The entries of a database as pg_dump writes them now, without rows.

    `target` is the file it writes, removed at the end. Raises PostgresError.
    """
    argv: list[str | Path] = [
        toolchain.pg_dump, "-F", "c", "-Z", "0", "--schema-only", "--no-password",
        "-f", target, "-d", info.dsn(application_name=None),
    ]  # fmt: skip
    try:
        outcome = command.run(
            argv,
            environment=supervision.environment,
            timeout=supervision.timeout,
            secrets=info.secrets,
            watch=command.Watch(supervision.on_start, on_tick=supervision.on_tick),
        )
        if outcome.status != 0:
            words = outcome.last_words
            raise PostgresError(
                "could not compare the restored database with the backup",
                detail=words,
                hint=hint_for(words),
            )
        with target.open("rb") as file:
            return read_entries(file)
    except TimeoutError:
        raise PostgresError(
            "comparing the restored database with the backup took longer than"
            f" {supervision.timeout:.0f} s"
        ) from None
    finally:
        target.unlink(missing_ok=True)


def definitions(entries: Iterable[Entry]) -> Definitions:
    """The definitions of the entries, by kind, schema and name."""
    by_key: Definitions = {}
    for entry in entries:
        if _is_compared(entry):
            key = (entry.kind, entry.schema, entry.name)
            by_key.setdefault(key, []).append(entry.definition)
    return by_key


def added_by_code(
    server: Server, entries: Iterable[Entry], grants: Iterable[Entry]
) -> Iterator[str]:
    """Objects that only code in the dump can have created by the time of the comparison.

    Default privileges that its `grants` create anyway are not among them: the script of an
    extension may have created them already.
    """
    expected = {_spaced(entry.definition) for entry in grants if entry.kind == "DEFAULT ACL"}
    for entry in entries:
        if entry.kind in _NOT_YET and _spaced(entry.definition) not in expected:
            yield f"{entry.kind.lower()} {entry.name} was created while the dump was loaded"
    for (index,) in server.rows(_INVALID):
        yield f"{index} was created while the dump was loaded, and is not valid"


def _spaced(definition: str) -> str:
    """Before 17, pg_dump writes two spaces where another version writes one."""
    return " ".join(definition.split())


def _is_compared(entry: Entry) -> bool:
    if entry.kind in ("COMMENT", "SECURITY LABEL"):
        return not _ABOUT_NOT_COMPARED.match(entry.name)
    return entry.kind not in _NOT_COMPARED and (entry.kind, entry.name) not in _BUILT_IN


def changes(expected: Definitions, actual: Definitions, *, same_version: bool) -> Iterator[str]:
    """The differences between two databases, one line each."""
    for key in sorted(expected.keys() | actual.keys()):
        kind, schema, name = key
        label = f"{kind.lower()} {f'{schema}.' if schema else ''}{name}"
        if key not in actual:
            yield f"{label} is missing"
        elif key not in expected:
            yield f"{label} was not in the backup"
        elif _texts(expected[key], same_version) != _texts(actual[key], same_version):
            yield f"{label} is not defined as it was"


def _texts(definitions: list[str], same_version: bool) -> list[str]:
    texts = map(settled, definitions)
    return sorted(texts if same_version else map(_without_qualifiers, texts))


def _without_qualifiers(definition: str) -> str:
    """From 16 on, a query of a single table names its columns without the table."""
    relations = {name for names in _RELATIONS.findall(definition) for name in names}

    def shorter(match: re.Match[str]) -> str:
        return "" if match[2] in relations and not match[1] else match[0]

    return _QUALIFIER.sub(shorter, definition)


def settled(definition: str) -> str:
    """The text after the server has parsed and printed it again; most texts stay the same.

    A cast of an array becomes casts of its elements, and a table that inherits lists its
    columns in another order.
    """
    settled = _CAST_ARRAY.sub(_cast_elements, _DEBIANS_OWN.sub("", definition))
    if "\nINHERITS (" in settled:
        return "\n".join(sorted(line.rstrip(",") for line in settled.splitlines()))
    return settled


def _cast_elements(match: re.Match[str]) -> str:
    elements = ", ".join(f"({element})::{match[2]}" for element in _elements(match[1]))
    return f"ARRAY[{elements}]"


def _elements(listed: str) -> Iterator[str]:
    """The parts between commas that are neither in quotes nor in parentheses."""
    depth, element = 0, ""
    for part in _PARTS.findall(listed):
        depth += (part == "(") - (part == ")")
        if part == "," and not depth:
            yield element.strip()
            element = ""
        else:
            element += part
    yield element.strip()
