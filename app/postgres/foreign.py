"""What a foreign archive says about itself, as far as it can be trusted.

None of it comes from a server that we asked: names are texts to show, and are cleaned of
characters that neither JSON nor a database accepts.
"""

import re
from collections.abc import Iterable
from typing import Any

from app.postgres.archive import Entry
from app.postgres.encodings import printable
from app.postgres.rows import RowCounter

_MOST_NAMES = 1000  # of each kind

_SETTING = re.compile(
    r"\b(LOCALE_PROVIDER|(?:ICU_|BUILTIN_)?LOCALE|LC_COLLATE|LC_CTYPE) = '?([^' ;]*)"
)
_CLIENT_ENCODING = re.compile(r"client_encoding = '([^']*)'")
_PROVIDERS = {"libc": "c", "icu": "i", "builtin": "b"}  # pg_database.datlocprovider

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}

# Kinds that bring code or need rights; shown before a restore.
_WARNED_OF = {
    "functions": ("FUNCTION", "PROCEDURE", "AGGREGATE"),
    "triggers": ("TRIGGER", "RULE"),
    "extensions": ("EXTENSION",),
    "languages": ("PROCEDURAL LANGUAGE",),
    "eventTriggers": ("EVENT TRIGGER",),
    "foreignServers": ("FOREIGN DATA WRAPPER", "SERVER", "USER MAPPING"),
    "publications": ("PUBLICATION",),
    "subscriptions": ("SUBSCRIPTION",),
}


def contents_of(entries: list[Entry], rows: RowCounter) -> dict[str, Any]:
    """What a restore must know of an archive, in the form of a snapshot's contents.

    Values that an archive does not have are None or missing. `foreign` lists what it
    brings that could act.
    """
    own_tables = {(entry.schema, entry.name) for entry in entries if entry.kind == "TABLE"}
    return _locale_of(entries) | {
        "extensions": [{"name": name} for name in _names(entries, ("EXTENSION",))],
        "tables": [
            {"schema": name[0], "name": name[1], "rows": count}
            for name, count in rows.rows.items()
            if name in own_tables and all(part == printable(part) for part in name)
        ],
        "rowsOnly": not own_tables and bool(rows.rows),
        "foreign": _brought_by(entries),
    }


def _locale_of(entries: list[Entry]) -> dict[str, Any]:
    """Encoding and locale of the database that was dumped."""
    header = next((entry.definition for entry in entries if entry.kind == "ENCODING"), "")
    encoding = _CLIENT_ENCODING.search(header)
    created = next((entry.definition for entry in entries if entry.kind == "DATABASE"), "")
    settings = dict(_SETTING.findall(created))
    locale = settings.get("LOCALE")
    return {
        "encoding": printable(encoding[1]) if encoding else "UTF8",
        "collate": settings.get("LC_COLLATE", locale),
        "ctype": settings.get("LC_CTYPE", locale),
        "localeProvider": _PROVIDERS.get(settings.get("LOCALE_PROVIDER", "")),
        "locale": settings.get("ICU_LOCALE") or settings.get("BUILTIN_LOCALE") or locale,
    }


def _brought_by(entries: list[Entry]) -> dict[str, list[str]]:
    """The names of what could act, by kind, and the owners that the archive names."""
    by_kind = {key: _names(entries, kinds)[:_MOST_NAMES] for key, kinds in _WARNED_OF.items()}
    owners = sorted({printable(entry.owner) for entry in entries if entry.owner})
    return {key: names for key, names in by_kind.items() if names} | {
        "owners": owners[:_MOST_NAMES]
    }


def tell_what_it_is(head: bytes, *, is_folder: bool = False) -> str:
    """What to do with a file that is not an archive, by its first bytes."""
    how = "Make one with: pg_dump -F c -f FILE DATABASE"
    if is_folder:
        return f"A dump of pg_dump -F d cannot be checked and restored here. {how}"
    for start, what in _PACKED.items():
        if head.startswith(start):
            return f"It is packed by {what}: unpack it first."
    if head[257:262] == b"ustar":
        return f"It is a tar archive: unpack it, unless pg_dump -F t made it. {how}"
    if b"PostgreSQL database cluster dump" in head:
        return f"It is SQL by pg_dumpall; run it by psql on a new server. {how}"
    if b"PostgreSQL database dump" in head:
        return f"It is SQL by pg_dump; run it by psql in an empty database. {how}"
    return f"Only archives of pg_dump -F c can be checked and restored. {how}"


def clean_name(name: str) -> str:
    """A name that can be stored and shown, at most 255 characters."""
    return printable(name[:255])


def _names(entries: Iterable[Entry], kinds: tuple[str, ...]) -> list[str]:
    return [
        printable(f"{entry.schema}.{entry.name}" if entry.schema else entry.name)
        for entry in entries
        if entry.kind in kinds
    ]
