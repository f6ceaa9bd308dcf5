"""Some tables of an archive: which of its entries make them, and what has to stay behind."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidInput
from app.postgres.archive import Entry
from app.postgres.census import Census
from app.postgres.connection import quoted
from app.postgres.encodings import printable

Name = tuple[str, str]  # schema and table

_RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW"})
# What is part of a table, and may need more than that.
_PARTS = frozenset(
    {
        "DEFAULT", "INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE",
        "POLICY", "ROW SECURITY", "STATISTICS", "SEQUENCE", "INDEX ATTACH", "TABLE ATTACH",
    }
)  # fmt: skip
# What only says something of what is there.
_REMARKS = frozenset(
    {
        "ACL", "COMMENT", "SECURITY LABEL", "SEQUENCE OWNED BY", "SEQUENCE SET", "STATISTICS DATA",
    }
)  # fmt: skip
_CODE = frozenset({"FUNCTION", "PROCEDURE", "AGGREGATE"})
# What the text of a function may use: an archive does not say that it needs it.
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
    """The entries that make the chosen tables, in the archive's order."""

    entries: list[Entry]
    tables: set[Name]  # that come with their rows
    definitions: list[str]  # tables that others need to exist, and that come without rows
    left_out: list[str]  # parts of these that need what was not chosen: kind and name


def select(entries: Iterable[Entry], chosen: Iterable[Name]) -> Selection:
    """All that makes these tables with their rows, and nothing that needs other tables.

    With a partitioned table come its partitions; with a partition or a child,
    its parent without rows. Raises InvalidInput for a table that the archive
    does not have.
    """
    return _Selecting(entries).of(chosen)


class _Selecting:
    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = list(entries)
        self._by_id = {each.id: each for each in self._entries}
        self._whole: set[int] = set()  # tables that come with their rows
        self._taken: set[int] = set()

    def of(self, chosen: Iterable[Name]) -> Selection:
        tables = {(each.schema, each.name): each.id for each in self._entries if _is_table(each)}
        for name in chosen:
            if name not in tables:
                raise InvalidInput(f"the archive has no table {written(*name)}")
            self._whole.add(tables[name])
        self._add_partitions()
        for table in self._whole:
            self._taken |= self._reached(table)
        self._add_parts()
        if any(each.kind in _CODE for each in self._found()):
            for entry in self._entries:
                if entry.kind in _AROUND_CODE and self._may_come(entry):
                    self._taken |= self._reached(entry.id)
            self._add_parts()
        # The rows last: nothing needs them.
        self._taken |= {
            each.id
            for each in self._entries
            if each.kind == "TABLE DATA" and self._whole.intersection(each.needs)
        }
        found = list(self._found())
        return Selection(
            found,
            {(each.schema, each.name) for each in found if each.id in self._whole},
            [
                written(each.schema, each.name)
                for each in found
                if _is_table(each) and each.id not in self._whole
            ],
            [printable(f"{each.kind} {each.name}") for each in self._left_out()]
            + self._large_objects(),
        )

    def _found(self) -> Iterator[Entry]:
        return (each for each in self._entries if each.id in self._taken)

    def _add_partitions(self) -> None:
        """Those of the chosen tables, and theirs."""
        pairs = [pair for each in self._entries for pair in self._attached(each)]
        more = True
        while more:
            of_these = {partition for partition, parent in pairs if parent in self._whole}
            more = not of_these <= self._whole
            self._whole |= of_these

    def _attached(self, entry: Entry) -> Iterator[tuple[int, int]]:
        """Partition and parent; up to pg_dump 13 the partition's own entry attaches it."""
        if not (entry.kind == "TABLE ATTACH" or _is_table(entry)):
            return
        if "ATTACH PARTITION" not in entry.definition:
            return
        tables = [each for each in self._direct(entry) if _is_table(each)]
        own = (entry.schema, entry.name)
        partition = next((each for each in [entry, *tables] if _is_table(each, own)), None)
        if partition is not None:
            yield from ((partition.id, each.id) for each in tables if each is not partition)

    def _direct(self, entry: Entry) -> Iterator[Entry]:
        """What it names itself; others are the borders between an archive's sections."""
        return (self._by_id[need] for need in entry.needs if need in self._by_id)

    def _reached(self, number: int) -> set[int]:
        """An entry and all that has to be there before it."""
        found, waiting = set[int](), [number]
        while waiting:
            at = waiting.pop()
            if at not in found:
                found.add(at)
                waiting += [each.id for each in self._direct(self._by_id[at])]
        return found

    def _add_parts(self) -> None:
        """What belongs to what was taken, in the order in which it needs each other."""
        for entry in self._entries:
            needs = list(self._direct(entry))
            if entry.kind in _REMARKS:
                # The schema public is in no archive unless it was changed.
                of_public = not needs and entry.name == "SCHEMA public"
                if of_public or (needs and all(each.id in self._taken for each in needs)):
                    self._taken.add(entry.id)
            elif entry.kind in _PARTS and self._is_part(needs) and self._may_come(entry):
                self._taken |= self._reached(entry.id)

    def _is_part(self, needs: list[Entry]) -> bool:
        wholes = _RELATIONS | {"DOMAIN"}
        return any(each.kind in wholes and each.id in self._taken for each in needs)

    def _may_come(self, entry: Entry) -> bool:
        """Whether it needs no table that does not come; a foreign key needs the rows as well."""
        if entry.kind == "FK CONSTRAINT":
            tables = [each for each in self._direct(entry) if _is_table(each)]
            if any(each.id not in self._whole for each in tables):
                return False
        relations = (each for each in self._reached(entry.id) if self._is_relation(each))
        return all(each in self._taken for each in relations)

    def _is_relation(self, number: int) -> bool:
        return self._by_id[number].kind in _RELATIONS

    def _left_out(self) -> Iterator[Entry]:
        for entry in self._entries:
            if entry.kind in _PARTS and entry.id not in self._taken:
                tables = [each for each in self._direct(entry) if each.id in self._taken]
                if any(_belongs(entry, each) for each in tables if _is_table(each)):
                    yield entry

    def _large_objects(self) -> list[str]:
        return ["LARGE OBJECTS"] if any(e.kind in _LARGE_OBJECTS for e in self._entries) else []


def _is_table(entry: Entry, name: Name | None = None) -> bool:
    return entry.kind == "TABLE" and name in (None, (entry.schema, entry.name))


def _belongs(part: Entry, table: Entry) -> bool:
    """Whether it is this table's; the parts that have no name in the schema begin with its name."""
    if part.kind in ("INDEX", "STATISTICS", "SEQUENCE"):
        return True
    return part.schema == table.schema and f"{part.name} ".startswith(f"{table.name} ")


def narrowed(contents: dict[str, Any], selection: Selection) -> dict[str, Any]:
    """What a backup holds, as far as it is selected: what a restore of that has to be like."""
    made = {(each.kind, each.schema, each.name) for each in selection.entries}
    extensions = {name for kind, _, name in made if kind == "EXTENSION"}
    kept = contents | {
        "tables": [
            each
            for each in contents.get("tables", [])
            if (each["schema"], each["name"]) in selection.tables
        ],
        "sequences": [
            each
            for each in contents.get("sequences", [])
            if ("SEQUENCE", each["schema"], each["name"]) in made
        ],
        "extensions": [
            each for each in contents.get("extensions", []) if each["name"] in extensions
        ],
    }
    kept.pop("objects", None)
    return kept


def narrowed_to(contents: dict[str, Any], found: Census) -> dict[str, Any]:
    """The same with owners and grants of only what was found to be there."""
    there = {(kind, name) for kind, name, *_ in found["owned"] if name}
    owned = [
        each
        for each in contents.get("owned", [])
        if (each[0], each[1]) in there or _is_of(there, each[0], each[1])
    ]
    return contents | {"owned": owned}


def _is_of(there: set[tuple[str, str]], kind: str, name: str) -> bool:
    """Whether it is a column of what is there; it has an entry only if it has grants."""
    relation, is_column, _ = kind.rpartition(" column")
    dots = (found.start() for found in re.finditer(r"\.", name))
    return bool(is_column) and any((relation, name[:at]) in there for at in dots)


def written(schema: str, name: str) -> str:
    """A table's name as `read_name` takes it."""
    return ".".join(each if _PLAIN.fullmatch(each) else quoted(each) for each in (schema, name))


def read_name(text: str) -> tuple[str, str | None]:
    """Schema and table of `schema.table`, either in SQL's quotes or not; None of `schema.*`.

    Without quotes a name is taken as it stands, and a schema ends at the first
    dot. Raises InvalidInput.
    """
    found = _NAMED.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(
            f"{text!r} does not name a table",
            hint='Name schema and table: public.orders, crm.*, or "odd.schema"."odd table".',
        )
    schema, name = found.groups()
    return _unquoted(schema), None if name == "*" else _unquoted(name)


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
