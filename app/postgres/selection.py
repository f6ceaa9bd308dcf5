"""Select tables of an archive: the entries that create them, and what is left out."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidInput
from app.postgres.archive import Entry
from app.postgres.census import Census
from app.postgres.connection import quoted, unquoted
from app.postgres.encodings import printable

Name = tuple[str, str]  # schema and table

_RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW"})
# Parts of a table, which may need other objects too.
_PARTS = frozenset(
    {
        "DEFAULT", "INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE",
        "POLICY", "ROW SECURITY", "STATISTICS", "SEQUENCE", "INDEX ATTACH", "TABLE ATTACH",
    }
)  # fmt: skip
# Entries that only add something to another object.
_REMARKS = frozenset(
    {
        "ACL", "COMMENT", "SECURITY LABEL", "SEQUENCE OWNED BY", "SEQUENCE SET", "STATISTICS DATA",
    }
)  # fmt: skip
_CODE = frozenset({"FUNCTION", "PROCEDURE", "AGGREGATE"})
# Kinds that the body of a function may use: an archive does not list these dependencies.
_AROUND_CODE = _CODE | {
    "EXTENSION", "TYPE", "SHELL TYPE", "DOMAIN", "CAST", "COLLATION", "OPERATOR", "OPERATOR CLASS",
    "OPERATOR FAMILY", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY",
}  # fmt: skip
_LARGE_OBJECTS = frozenset({"BLOB", "BLOB METADATA", "BLOBS"})

_PLAIN = re.compile(r"\w+")
_PART = r'"(?:[^"]|"")*"'
_NAMED = re.compile(rf"({_PART}|[^.\"][^.]*)\.({_PART}|[^\"].*)", re.DOTALL)


@dataclass(frozen=True)
class Selection:
    """The entries that create the chosen tables, in the archive's order."""

    entries: list[Entry]
    tables: set[Name]  # restored with their rows
    definitions: list[str]  # tables restored without rows, because others need them
    left_out: list[str]  # kind and name of parts that need something not chosen


def select(entries: Iterable[Entry], chosen: Iterable[Name]) -> Selection:
    """Everything that creates these tables with their rows, and nothing that needs others.

    A partitioned table includes its partitions; a partition or a child includes its
    parent without rows. Raises InvalidInput for a table that the archive does not have.
    """
    return _Selecting(entries).of(chosen)


class _Selecting:
    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = list(entries)
        self._by_id = {entry.id: entry for entry in self._entries}
        self._whole: set[int] = set()  # tables restored with their rows
        self._taken: set[int] = set()

    def of(self, chosen: Iterable[Name]) -> Selection:
        tables = {
            (table.schema, table.name): table.id for table in filter(_is_table, self._entries)
        }
        for name in chosen:
            if name not in tables:
                raise InvalidInput(f"the archive has no table {written(*name)}")
            self._whole.add(tables[name])
        self._add_partitions()
        for table in self._whole:
            self._taken |= self._reached(table)
        self._add_parts()
        if any(entry.kind in _CODE for entry in self._chosen()):
            for entry in self._entries:
                if entry.kind in _AROUND_CODE and self._may_come(entry):
                    self._taken |= self._reached(entry.id)
            self._add_parts()
        # Rows come last: nothing needs them.
        self._taken |= {
            entry.id
            for entry in self._entries
            if entry.kind == "TABLE DATA" and self._whole.intersection(entry.needs)
        }
        chosen_entries = list(self._chosen())
        return Selection(
            chosen_entries,
            {(entry.schema, entry.name) for entry in chosen_entries if entry.id in self._whole},
            [
                written(entry.schema, entry.name)
                for entry in chosen_entries
                if _is_table(entry) and entry.id not in self._whole
            ],
            [printable(f"{entry.kind} {entry.name}") for entry in self._left_out()]
            + self._large_objects(),
        )

    def _chosen(self) -> Iterator[Entry]:
        return (entry for entry in self._entries if entry.id in self._taken)

    def _add_partitions(self) -> None:
        """Add the partitions of the chosen tables, and their partitions."""
        pairs = [pair for entry in self._entries for pair in self._attached(entry)]
        more = True
        while more:
            of_these = {partition for partition, parent in pairs if parent in self._whole}
            more = not of_these <= self._whole
            self._whole |= of_these

    def _attached(self, entry: Entry) -> Iterator[tuple[int, int]]:
        """Partition and parent; up to pg_dump 13, the partition's own entry attaches it."""
        if not (entry.kind == "TABLE ATTACH" or _is_table(entry)):
            return
        if "ATTACH PARTITION" not in entry.definition:
            return
        tables = [need for need in self._direct(entry) if _is_table(need)]
        own = (entry.schema, entry.name)
        partition = next((table for table in [entry, *tables] if _is_table(table, own)), None)
        if partition is not None:
            yield from ((partition.id, table.id) for table in tables if table is not partition)

    def _direct(self, entry: Entry) -> Iterator[Entry]:
        """The entries it depends on; other numbers mark the sections of an archive."""
        return (self._by_id[need] for need in entry.needs if need in self._by_id)

    def _reached(self, number: int) -> set[int]:
        """An entry and everything that has to exist before it."""
        reached, waiting = set[int](), [number]
        while waiting:
            at = waiting.pop()
            if at not in reached:
                reached.add(at)
                waiting += [need.id for need in self._direct(self._by_id[at])]
        return reached

    def _add_parts(self) -> None:
        """Add the parts of what was taken, in the order of their dependencies."""
        for entry in self._entries:
            needs = list(self._direct(entry))
            if entry.kind in _REMARKS:
                # An archive has no entry for the schema public unless it was changed.
                of_public = not needs and entry.name == "SCHEMA public"
                if of_public or (needs and all(need.id in self._taken for need in needs)):
                    self._taken.add(entry.id)
            elif entry.kind in _PARTS and self._is_part(needs) and self._may_come(entry):
                self._taken |= self._reached(entry.id)

    def _is_part(self, needs: list[Entry]) -> bool:
        wholes = _RELATIONS | {"DOMAIN"}
        return any(need.kind in wholes and need.id in self._taken for need in needs)

    def _may_come(self, entry: Entry) -> bool:
        """Whether all tables it needs are restored; a foreign key needs their rows too."""
        if entry.kind == "FK CONSTRAINT":
            tables = [need for need in self._direct(entry) if _is_table(need)]
            if any(table.id not in self._whole for table in tables):
                return False
        relations = filter(self._is_relation, self._reached(entry.id))
        return self._taken.issuperset(relations)

    def _is_relation(self, number: int) -> bool:
        return self._by_id[number].kind in _RELATIONS

    def _left_out(self) -> Iterator[Entry]:
        for entry in self._entries:
            if entry.kind in _PARTS and entry.id not in self._taken:
                tables = [need for need in self._direct(entry) if need.id in self._taken]
                if any(_belongs(entry, table) for table in tables if _is_table(table)):
                    yield entry

    def _large_objects(self) -> list[str]:
        return ["LARGE OBJECTS"] if any(e.kind in _LARGE_OBJECTS for e in self._entries) else []


def _is_table(entry: Entry, name: Name | None = None) -> bool:
    return entry.kind == "TABLE" and name in (None, (entry.schema, entry.name))


def _belongs(part: Entry, table: Entry) -> bool:
    """Whether it is part of this table; parts without a name of their own begin with its name."""
    if part.kind in ("INDEX", "STATISTICS", "SEQUENCE"):
        return True
    return part.schema == table.schema and f"{part.name} ".startswith(f"{table.name} ")


def narrowed(contents: dict[str, Any], selection: Selection) -> dict[str, Any]:
    """The part of a backup's contents that is selected, to compare a restore with."""
    created = {(entry.kind, entry.schema, entry.name) for entry in selection.entries}
    extensions = {name for kind, _, name in created if kind == "EXTENSION"}
    narrow = contents | {
        "tables": [
            table
            for table in contents.get("tables", [])
            if (table["schema"], table["name"]) in selection.tables
        ],
        "sequences": [
            sequence
            for sequence in contents.get("sequences", [])
            if ("SEQUENCE", sequence["schema"], sequence["name"]) in created
        ],
        "extensions": [
            item for item in contents.get("extensions", []) if item["name"] in extensions
        ],
    }
    narrow.pop("objects", None)
    return narrow


def narrowed_to(contents: dict[str, Any], census: Census) -> dict[str, Any]:
    """The same, with the owners and grants of existing objects only."""
    there = {(kind, name) for kind, name, *_ in census["owned"] if name}
    owned = [
        owned
        for owned in contents.get("owned", [])
        if (owned[0], owned[1]) in there or _is_of(there, owned[0], owned[1])
    ]
    return contents | {"owned": owned}


def _is_of(there: set[tuple[str, str]], kind: str, name: str) -> bool:
    """Whether it is a column of an existing relation; only columns with grants are listed."""
    relation, is_column, _ = kind.rpartition(" column")
    dots = (match.start() for match in re.finditer(r"\.", name))
    return bool(is_column) and any((relation, name[:at]) in there for at in dots)


def written(schema: str, name: str) -> str:
    """A table's name in the form that `read_name` accepts."""
    return ".".join(part if _PLAIN.fullmatch(part) else quoted(part) for part in (schema, name))


def read_name(text: str) -> tuple[str, str | None]:
    """Schema and table of `schema.table`, each in SQL's quotes or not; None for `schema.*`.

    An unquoted name is taken literally, and the schema ends at the first dot. Raises
    InvalidInput.
    """
    match = _NAMED.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(
            f"{text!r} does not name a table",
            hint='Name schema and table: public.orders, crm.*, or "odd.schema"."odd table".',
        )
    schema, name = match.groups()
    return unquoted(schema), None if name == "*" else unquoted(name)
