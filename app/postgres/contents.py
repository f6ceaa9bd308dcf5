"""The table of contents of an archive, as pg_dump writes it.

The format: src/bin/pg_dump/pg_backup_archiver.c (ReadHead, ReadToc),
pg_backup_custom.c and pg_backup_directory.c.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

MAGIC = b"PGDMP"
CUSTOM, DIRECTORY = 1, 3  # a directory's contents call themselves a tar's

# Features by version of the format, and the first major version whose pg_restore reads it
# (pg_backup_archiver.h, K_VERS_*).
_TABLE_METHOD, _COMPRESSION_IN_A_BYTE, _KIND_OF_RELATION = (1, 14), (1, 15), (1, 16)
_OLDEST_READER = {(1, 12): 10, (1, 13): 10, (1, 14): 12, (1, 15): 16, (1, 16): 17}

_METHODS = {0: "none", 1: "gzip", 2: "lz4", 3: "zstd"}  # pg_compress_algorithm

_LONGEST_FIELD = 256 * 1024**2  # bytes
_LONGEST_NAME = 1024  # bytes, of a database or a version
SHORTEST_ENTRY = 64  # bytes; so a small archive cannot claim many
_WIDTHS = (4, 8)  # bytes of a number, of an offset


@dataclass(frozen=True)
class Header:
    """The header of an archive."""

    format: tuple[int, int]
    entries: int  # in the table of contents
    compression: str  # the method
    database: str
    server_version: str
    tool_version: str  # of pg_dump

    @property
    def oldest_reader(self) -> int:
        """The oldest major version of pg_restore that reads the archive."""
        return _OLDEST_READER[self.format]


class RawEntry(NamedTuple):
    """An entry in an encoding that is not known yet."""

    id: int
    texts: tuple[bytes, ...]  # kind, schema, name, owner, definition, tablespace
    copy: bytes
    needs: tuple[int, ...]
    data: bytes  # where it lies: an offset in a custom archive, the name of a file in a directory
    start: int  # of the entry, in the archive
    end: int  # of the entry without `data`


class Reader:
    """Reads numbers and texts of an archive in order; ValueError where it ends early."""

    def __init__(self, archive: BinaryIO, form: int = CUSTOM) -> None:
        self._archive, self._form = archive, form
        self.at = 0  # bytes that were read
        self._size = archive.seek(0, os.SEEK_END)
        archive.seek(0)

    def header(self) -> Header:
        head = self._take(11)
        if not head.startswith(MAGIC) or head[10] != self._form:
            raise ValueError("another format")
        self._version, self.width, self.offset_width = (head[5], head[6]), head[8], head[9]
        if self._version not in _OLDEST_READER or not {*head[8:10]} <= {*_WIDTHS}:
            raise ValueError("an unknown version")
        if self._version >= _COMPRESSION_IN_A_BYTE:
            compression = _METHODS.get(self._take(1)[0], "unknown")
        else:
            compression = "gzip" if self._number() else "none"
        for _ in range(7):  # the time of its creation
            self._number()
        names = [self._raw(_LONGEST_NAME) for _ in range(3)]
        database, server, tool = (name.decode("utf-8", "surrogateescape") for name in names)
        entries = self._number()
        if entries <= 0:  # there is always one for the encoding
            raise ValueError("no entries")
        return Header(self._version, entries, compression, database, server, tool)

    def entries(self) -> Iterator[RawEntry]:
        number = self.header().entries
        if number > self._size // SHORTEST_ENTRY:
            raise ValueError("more entries than fit")
        for _ in range(number):
            yield self._entry()

    def _entry(self) -> RawEntry:
        start, number = self.at, self._number()
        self._number()  # whether there is data
        self._raw(), self._raw()  # its oids on the server
        name, kind = self._raw(), self._raw()
        self._number()  # its section
        definition = self._raw()
        self._raw()  # the statement that drops it
        copy = self._raw()
        schema, tablespace = self._raw(), self._raw()
        if self._version >= _TABLE_METHOD:
            self._raw()
        if self._version >= _KIND_OF_RELATION:
            self._number()
        owner = self._raw()
        self._raw()  # whether it has oids
        needs = []
        while need := self._raw():
            needs.append(int(need))
        end = self.at
        data = self._raw() if self._form == DIRECTORY else self._take(1 + self.offset_width)
        texts = (kind, schema, name, owner, definition, tablespace)
        return RawEntry(number, texts, copy, tuple(needs), data, start, end)

    def _take(self, length: int) -> bytes:
        if length > self._size:
            raise ValueError("longer than the file")
        taken = self._archive.read(length)
        if len(taken) != length:
            raise ValueError("the file ends early")
        self.at += length
        return taken

    def _number(self) -> int:
        raw = self._take(1 + self.width)
        return (-1 if raw[0] else 1) * int.from_bytes(raw[1:], "little")

    def _raw(self, most: int = _LONGEST_FIELD) -> bytes:
        length = max(self._number(), 0)
        if length > most:
            raise ValueError("longer than possible")
        return self._take(length)
