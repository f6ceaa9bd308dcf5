"""The tables that a backup holds: listed, and chosen by name."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from app.errors import InvalidInput
from app.extensions import MAX_SEARCHED
from app.postgres.selection import Name, read_name, written
from app.services.backups.listing import get_backup

MAX_LIMIT = 1000  # tables in one answer

SORTS = ("name", "rows", "bytes")


@dataclass(frozen=True)
class Contents:
    """Some of a backup's tables, and how many there are."""

    tables: list[dict[str, Any]]  # schema, name, rows, bytes, isPartitioned, isOfExtension
    total: int


def list_contents(
    filename: str, *, query: str = "", sort: str = "name", limit: int | None = None, offset: int = 0
) -> Contents:
    """The tables in whose name the query occurs, by name or the largest first.

    `rows` and `bytes` are None where they are not known: of partitioned tables,
    whose rows their partitions have, and in backups that did not count.
    Raises NotFound, InvalidInput.
    """
    if sort not in SORTS:
        raise InvalidInput(f"sort must be one of {', '.join(SORTS)}")
    if offset < 0 or (limit is not None and not 1 <= limit <= MAX_LIMIT):
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}, offset not below 0")
    if len(query) > MAX_SEARCHED:
        raise InvalidInput(f"a search has at most {MAX_SEARCHED} characters")
    wanted = query.strip().casefold()
    found = [
        each
        for each in _tables_of(filename)
        if wanted in f"{each['schema']}.{each['name']}".casefold()
    ]
    if sort != "name":
        found.sort(key=lambda each: -(each[sort] or 0))
    return Contents(found[offset:][:limit], len(found))


def choose_tables(filename: str, wanted: Iterable[str]) -> list[Name]:
    """The tables that names like `public.orders` and `crm.*` mean, each once.

    Raises NotFound, InvalidInput for what is no name, or none of this backup.
    """
    there = [(each["schema"], each["name"]) for each in _choosable(filename)]
    chosen: dict[Name, None] = {}
    for text in wanted:
        schema, name = read_name(text)
        if name is not None:
            chosen[schema, name] = None
            continue
        of_schema = [each for each in there if each[0] == schema]
        if not of_schema:
            raise _unknown(f"tables of a schema {schema}", schema, (each[0] for each in there))
        chosen |= dict.fromkeys(of_schema)
    refuse_unknown(filename, chosen)
    return list(chosen)


def refuse_unknown(filename: str, chosen: Iterable[Name]) -> None:
    """Raise InvalidInput for a table that this backup does not hold, or not by itself."""
    there = {(each["schema"], each["name"]) for each in _choosable(filename)}
    for name in chosen:
        if name not in there:
            known = [written(*each) for each in there]
            raise _unknown(f"table {written(*name)}", written(*name), known)


def _unknown(what: str, told: str, known: Iterable[str]) -> InvalidInput:
    near = get_close_matches(told, set(known), 1)
    return InvalidInput(
        f"the backup holds no {what}",
        hint=f"Did you mean {near[0]}?" if near else "flask backup contents lists what it holds.",
    )


def _choosable(filename: str) -> list[dict[str, Any]]:
    """Tables of extensions come with these."""
    return [each for each in _tables_of(filename) if not each["isOfExtension"]]


def _tables_of(filename: str) -> list[dict[str, Any]]:
    """All tables of a backup by name; those of older backups have no bytes."""
    contents = get_backup(filename).contents or {}
    tables = {
        (each["schema"], each["name"]): {
            "schema": each["schema"],
            "name": each["name"],
            "rows": each.get("rows"),
            "bytes": each.get("bytes"),
            "isPartitioned": False,
            "isOfExtension": bool(each.get("extension")),
        }
        for each in contents.get("tables", [])
    }
    for kind, identity, *_ in contents.get("owned", []):
        # Who has an owner and no rows of its own.
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
