"""List the tables in a backup, and choose some by name."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from app.errors import InvalidInput
from app.extensions import MAX_SEARCHED
from app.models import DatabaseBackup
from app.postgres.selection import Name, read_name, written
from app.services.restores.source import Source, get_source

MAX_LIMIT = 1000  # tables in one answer

SORTS = ("name", "rows", "bytes")


@dataclass(frozen=True)
class Contents:
    """Some of a backup's tables, and how many there are."""

    backup: DatabaseBackup
    tables: list[dict[str, Any]]  # schema, name, rows, bytes, isPartitioned, isOfExtension
    total: int


def list_contents(
    filename: str, *, query: str = "", sort: str = "name", limit: int | None = None, offset: int = 0
) -> Contents:
    """The tables whose name contains the query, by name or the largest first.

    `rows` and `bytes` are None if unknown: for partitioned tables, whose partitions have
    the rows, and in backups that did not count. Raises NotFound, InvalidInput.
    """
    if sort not in SORTS:
        raise InvalidInput(f"sort must be one of {', '.join(SORTS)}")
    if offset < 0 or (limit is not None and not 1 <= limit <= MAX_LIMIT):
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}, offset not below 0")
    if len(query) > MAX_SEARCHED:
        raise InvalidInput(f"a search has at most {MAX_SEARCHED} characters")
    source, wanted = get_source(filename), query.strip().casefold()
    matching = [
        table
        for table in tables_of(source)
        if wanted in f"{table['schema']}.{table['name']}".casefold()
    ]
    if sort != "name":
        matching.sort(key=lambda table: -(table[sort] or 0))
    return Contents(source.backup, matching[offset:][:limit], len(matching))


def choose_tables(source: Source, wanted: Iterable[str]) -> list[Name]:
    """The tables for names like `public.orders` and `crm.*`, each once.

    Raises InvalidInput for an invalid name, or one that is not in this backup.
    """
    there = [(table["schema"], table["name"]) for table in _choosable(source)]
    chosen: dict[Name, None] = {}
    for text in wanted:
        schema, name = read_name(text)
        if name is not None:
            chosen[schema, name] = None
            continue
        of_schema = [name for name in there if name[0] == schema]
        if not of_schema:
            raise _unknown(f"tables of a schema {schema}", schema, (name[0] for name in there))
        chosen |= dict.fromkeys(of_schema)
    refuse_unknown(source, chosen)
    return list(chosen)


def refuse_unknown(source: Source, chosen: Iterable[Name]) -> None:
    """Raise InvalidInput for a table that is not in this backup or belongs to an extension."""
    there = {(table["schema"], table["name"]) for table in _choosable(source)}
    for name in chosen:
        if name not in there:
            known = [written(*name) for name in there]
            raise _unknown(f"table {written(*name)}", written(*name), known)


def _unknown(what: str, text: str, known: Iterable[str]) -> InvalidInput:
    near = get_close_matches(text, set(known), 1)
    return InvalidInput(
        f"the backup holds no {what}",
        hint=f"Did you mean {near[0]}?" if near else "flask backup contents lists what it holds.",
    )


def _choosable(source: Source) -> list[dict[str, Any]]:
    """The tables that are not part of an extension."""
    return [table for table in tables_of(source) if not table["isOfExtension"]]


def tables_of(source: Source) -> list[dict[str, Any]]:
    """All tables of a backup by name; older backups lack their bytes."""
    contents = source.contents
    tables = {
        (table["schema"], table["name"]): {
            "schema": table["schema"],
            "name": table["name"],
            "rows": table.get("rows"),
            "bytes": table.get("bytes"),
            "isPartitioned": False,
            "isOfExtension": bool(table.get("extension")),
        }
        for table in contents.get("tables", [])
    }
    for kind, identity, *_ in contents.get("owned", []):
        # Partitioned tables have an owner but no rows of their own.
        schema, name = read_name(identity) if kind == "table" else ("", None)
        if name is not None and (schema, name) not in tables:
            tables[schema, name] = {
                "schema": schema,
                "name": name,
                "rows": None,
                "bytes": None,
                "isPartitioned": True,
                "isOfExtension": False,
            }
    return [tables[name] for name in sorted(tables)]
