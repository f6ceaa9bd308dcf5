"""What has changed from one backup to another, without a restore."""

import enum
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, TypeVar

from sqlalchemy import select

from app.errors import InvalidInput, ObjectMissing
from app.extensions import db
from app.models import DatabaseBackup, Status
from app.postgres.archive import read_entries
from app.services.databases.configured import storage
from app.services.restores.source import Source, get_source
from app.services.restores.tables import tables_of

MAX_CHANGES = 1000  # of a kind, in one answer
_EARLIER = 50  # backups to choose from

# Entries of every archive that are no objects of the database, or that rows have.
_NO_OBJECTS = frozenset(
    (
        *("ENCODING", "STDSTRINGS", "SEARCHPATH", "TABLE DATA", "SEQUENCE SET"),
        *("BLOBS", "BLOB", "BLOB METADATA", "STATISTICS DATA", "DATABASE", "DATABASE PROPERTIES"),
    )
)

ObjectName = tuple[str, str, str]  # kind, schema, name
Name = TypeVar("Name", tuple[str, str], ObjectName)
Value = TypeVar("Value")


class Change(enum.Enum):
    """What became of a table or another object."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True)
class Size:
    """How much a table holds; None: not counted."""

    rows: int | None
    bytes: int | None  # of its rows, before compression


@dataclass(frozen=True)
class TableChange:
    """A table that is only in one of two backups, or has another number of rows or bytes."""

    schema: str
    name: str
    change: Change
    before: Size
    now: Size


@dataclass(frozen=True)
class ObjectChange:
    """An object that is only in one of two backups, or has another definition or owner."""

    kind: str  # as pg_dump calls it: TABLE, INDEX, FK CONSTRAINT, ACL
    schema: str
    name: str
    change: Change


@dataclass(frozen=True)
class Changes(Generic[Value]):
    """The first changes, and how many there are."""

    first: Sequence[Value]
    total: int


@dataclass(frozen=True)
class Comparison:
    """What has changed from `earlier` to `backup`."""

    earlier: DatabaseBackup
    backup: DatabaseBackup
    tables: Changes[TableChange]  # those whose rows changed most first
    objects: Changes[ObjectChange] | None  # None: a dump is not here


def compare_backups(filename: str, earlier: str = "") -> Comparison:
    """Compare a backup with an earlier one, by default the last full one before it.

    Tables are compared by the numbers of their rows and bytes, objects by their definitions.
    Raises NotFound, InvalidInput if there is nothing to compare with, DumpError for a dump
    that is damaged, StorageError.
    """
    new = get_source(filename)
    if not (earlier := earlier or next(iter(list_earlier(new.backup, limit=1)), "")):
        raise InvalidInput(
            "there is no earlier backup to compare with", hint="Name the backup to compare with."
        )
    old = get_source(earlier)
    for source in (old, new):
        if not source.backup.is_completed:
            raise InvalidInput(f"{source.filename} is not completed: it holds nothing to compare")
    return Comparison(old.backup, new.backup, _changed_tables(old, new), _changed_objects(old, new))


def list_earlier(backup: DatabaseBackup, limit: int = _EARLIER) -> list[str]:
    """The names of the completed full backups of the same database before one, newest first."""
    if backup.database_id is None:
        return []
    earlier = select(DatabaseBackup.filename).where(
        DatabaseBackup.database_id == backup.database_id,
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.is_partial.is_(False),
        DatabaseBackup.delete_requested_at.is_(None),
        DatabaseBackup.created_at < backup.created_at,
    )
    return list(db.session.scalars(earlier.order_by(DatabaseBackup.created_at.desc()).limit(limit)))


def _changed_tables(old: Source, new: Source) -> Changes[TableChange]:
    before, now = _sizes(old), _sizes(new)
    nothing = Size(None, None)
    changes = [
        TableChange(*name, change, before.get(name, nothing), now.get(name, nothing))
        for name, change in _changes(before, now)
    ]
    changes.sort(key=lambda change: -abs((change.now.rows or 0) - (change.before.rows or 0)))
    return Changes(changes[:MAX_CHANGES], len(changes))


def _sizes(source: Source) -> dict[tuple[str, str], Size]:
    return {
        (table["schema"], table["name"]): Size(table["rows"], table["bytes"])
        for table in tables_of(source)
    }


def _changed_objects(old: Source, new: Source) -> Changes[ObjectChange] | None:
    try:
        before, now = _definitions(old.filename), _definitions(new.filename)
    except ObjectMissing:
        return None
    changes = [ObjectChange(*name, change) for name, change in _changes(before, now)]
    return Changes(changes[:MAX_CHANGES], len(changes))


def _definitions(filename: str) -> Mapping[ObjectName, Sequence[bytes]]:
    """The digests of the objects' definitions; several may have one name."""
    digests: dict[ObjectName, list[bytes]] = defaultdict(list)
    with storage().open(filename) as file:
        entries = read_entries(file)
    for entry in entries:
        if entry.kind in _NO_OBJECTS:
            continue
        text = f"{entry.owner}\0{entry.tablespace}\0{entry.definition}"
        digest = sha256(text.encode("utf-8", "surrogateescape")).digest()
        digests[entry.kind, entry.schema, entry.name].append(digest)
    return {name: sorted(found) for name, found in digests.items()}


def _changes(before: Mapping[Name, Any], now: Mapping[Name, Any]) -> list[tuple[Name, Change]]:
    """The names whose values differ, in order."""
    changes = dict.fromkeys(before.keys() - now.keys(), Change.REMOVED)
    changes |= dict.fromkeys(now.keys() - before.keys(), Change.ADDED)
    both = before.keys() & now.keys()
    changes |= {name: Change.CHANGED for name in both if before[name] != now[name]}
    return sorted(changes.items())
