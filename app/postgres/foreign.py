"""What an archive of somebody else says of itself, as far as it may be believed.

Nothing of it came from a server that we asked: names are texts to be shown,
and are cleaned of what neither JSON nor a database takes.
"""

import re
from collections.abc import Iterable
from typing import Any

from app.postgres.archive import Entry
from app.postgres.encodings import printable
from app.postgres.rows import RowCounter

MOST_TOLD = 1000  # names of each kind

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

# What brings code along, or asks for rights: shown before a restore.
_TOLD = {
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
    """What a restore must know of an archive: encoding, locale, extensions, tables and their rows.

    In the form in which a snapshot tells it; what an archive does not tell is
    None or missing. Under `foreign` stands what it brings that could act.
    """
    encoding = next(
        (
            found[1]
            for entry in entries
            if entry.kind == "ENCODING" and (found := _CLIENT_ENCODING.search(entry.definition))
        ),
        "UTF8",
    )
    made = next((entry.definition for entry in entries if entry.kind == "DATABASE"), "")
    told = dict(_SETTING.findall(made))
    locale = told.get("LOCALE")
    own_tables = {(entry.schema, entry.name) for entry in entries if entry.kind == "TABLE"}
    return {
        "encoding": printable(encoding),
        "collate": told.get("LC_COLLATE", locale),
        "ctype": told.get("LC_CTYPE", locale),
        "localeProvider": _PROVIDERS.get(told.get("LOCALE_PROVIDER", "")),
        "locale": told.get("ICU_LOCALE") or told.get("BUILTIN_LOCALE") or locale,
        "extensions": [{"name": name} for name in _names(entries, ("EXTENSION",))],
        "tables": [
            {"schema": name[0], "name": name[1], "rows": found}
            for name, found in rows.rows.items()
            if name in own_tables and all(each == printable(each) for each in name)
        ],
        "rowsOnly": not own_tables and bool(rows.rows),
        "foreign": {
            key: names[:MOST_TOLD]
            for key, kinds in _TOLD.items()
            if (names := _names(entries, kinds))
        }
        | {
            "owners": sorted({printable(entry.owner) for entry in entries if entry.owner})[
                :MOST_TOLD
            ]
        },
    }


def tell_what_it_is(head: bytes, *, is_folder: bool = False) -> str:
    """What to do with something that is no archive, by its first bytes."""
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
    """A name that can be kept and shown, at most 255 characters."""
    return printable(name[:255])


def _names(entries: Iterable[Entry], kinds: tuple[str, ...]) -> list[str]:
    return [
        printable(f"{entry.schema}.{entry.name}" if entry.schema else entry.name)
        for entry in entries
        if entry.kind in kinds
    ]
