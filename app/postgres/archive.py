"""What an archive of pg_dump holds, and whether it can be read whole.

The form of the custom format: src/bin/pg_dump/pg_backup_archiver.c (ReadHead,
ReadToc) and pg_backup_custom.c. Reading it here gives every name as it is;
the list that pg_restore prints cannot be split at names with spaces.
"""

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from app.errors import AppError, DumpError, PostgresError, StorageError, ToolError
from app.postgres import command
from app.postgres.encodings import python_codec
from app.postgres.tools import Toolchain

MAGIC = b"PGDMP"
_CUSTOM = 1

# What came with which version of the format, and the first major version whose
# pg_restore reads it (pg_backup_archiver.h, K_VERS_*).
_TABLE_METHOD, _COMPRESSION_IN_A_BYTE, _KIND_OF_RELATION = (1, 14), (1, 15), (1, 16)
_OLDEST_READER = {(1, 12): 10, (1, 13): 10, (1, 14): 12, (1, 15): 16, (1, 16): 17}

_METHODS = {0: "none", 1: "gzip", 2: "lz4", 3: "zstd"}  # pg_compress_algorithm

# What reading back may take: a hostile archive gets no more, and one of ours
# needs far less. 20,000 tables (some 80,000 entries) took 89 MB of memory, and
# 500,000 large objects of pg_dump 15 (an entry each) 240 MB.
_READ_MEMORY = 1024**3  # bytes of address space; zstd's long windows need much of it
_READ_MEMORY_PER_ENTRY = 4096  # bytes
_LONGEST_FIELD = 256 * 1024**2  # bytes
_LONGEST_NAME = 1024  # bytes, of a database or a version
_SHORTEST_ENTRY = 64  # bytes; so a small archive cannot claim many
_WIDTHS = (4, 8)  # bytes of a number, of an offset
_READ_SECONDS = 60
_READ_BYTES_PER_SECOND = 2 * 1024**2  # of the archive; the slowest disk is faster
_CONTENT_BYTES_PER_SECOND = 20 * 1024**2  # of the database; the slowest processor is faster

_SETVAL = re.compile(r"SELECT pg_catalog\.setval\('(?:[^']|'')*', (-?\d+), (true|false)\);")

# Signals that come from without, such as from the kernel when memory is short.
_SENT = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# What pg_restore says of the machine, not of the archive.
_OF_THE_MACHINE = re.compile(
    r"could not (open|close|create) |could not write|Input/output error|No space left"
    r"|Permission denied|Stale file handle|Too many open files|error while loading shared"
)

_CLIENT_ENCODING = re.compile(rb"client_encoding = '([^']*)'")

_NO_ARCHIVE = "the file is not an archive of pg_dump's custom format"


@dataclass(frozen=True)
class Header:
    """What the first bytes of an archive say."""

    format: tuple[int, int]
    entries: int  # of the table of contents
    compression: str  # its method
    database: str
    server_version: str
    tool_version: str  # of pg_dump

    @property
    def oldest_reader(self) -> int:
        """The oldest major version of pg_restore that reads it."""
        return _OLDEST_READER[self.format]


@dataclass(frozen=True)
class Entry:
    """One entry of an archive's table of contents."""

    id: int
    kind: str  # "TABLE", "TABLE DATA", "FK CONSTRAINT", …
    schema: str
    name: str
    owner: str
    definition: str
    copy: bytes  # the statement before its rows, as it stands in the archive
    needs: tuple[int, ...]  # ids of others
    tablespace: str = ""  # empty: that of the database

    @property
    def sequence_value(self) -> tuple[int, bool] | None:
        """The value that it gives a sequence, and whether that was handed out."""
        found = _SETVAL.search(self.definition) if self.kind == "SEQUENCE SET" else None
        return (int(found[1]), found[2] == "true") if found else None


def read_header(archive: BinaryIO) -> Header:
    """Read the header of a custom-format archive. Raises DumpError if it is none, StorageError."""
    try:
        return _Reader(archive).header()
    except (ValueError, OverflowError) as error:
        raise DumpError(_NO_ARCHIVE) from error
    except OSError as error:
        raise _not_read(error) from error


def read_entries(archive: BinaryIO) -> list[Entry]:
    """The whole table of contents. Raises DumpError where there is none, StorageError."""
    try:
        reader = _Reader(archive)
        return _decoded(reader.entries())
    except (ValueError, OverflowError) as error:
        raise DumpError(_NO_ARCHIVE, detail="Its table of contents cannot be read.") from error
    except OSError as error:
        raise _not_read(error) from error


def number_width(archive: BinaryIO) -> int:
    """Bytes of a number, without its sign; leaves the archive behind its table of contents."""
    reader = _Reader(archive)
    reader.entries()
    return reader.width


def _not_read(error: OSError) -> StorageError:
    return StorageError("the dump could not be read", detail=f"{error.strerror or error}.")


class _RawEntry(NamedTuple):
    """An entry whose encoding is not known yet."""

    id: int
    texts: tuple[bytes, ...]  # kind, schema, name, owner, definition, tablespace
    copy: bytes
    needs: tuple[int, ...]


def _decoded(raw: list[_RawEntry]) -> list[Entry]:
    """Entries by the encoding that one of them tells; bytes that do not fit become surrogates."""
    told = next((each.texts[4] for each in raw if each.texts[0] == b"ENCODING"), b"")
    found = _CLIENT_ENCODING.search(told)
    codec = python_codec(found[1].decode("ascii", "replace") if found else "UTF8")
    entries = []
    for each in raw:
        kind, schema, name, owner, definition, tablespace = (
            text.decode(codec, "surrogateescape") for text in each.texts
        )
        entries.append(
            Entry(each.id, kind, schema, name, owner, definition, each.copy, each.needs, tablespace)
        )
    return entries


class _Reader:
    """Numbers and texts of an archive, one after the other; ValueError where it ends."""

    def __init__(self, archive: BinaryIO) -> None:
        self._archive = archive
        self._size = archive.seek(0, os.SEEK_END)
        archive.seek(0)

    def header(self) -> Header:
        head = self._take(11)
        if not head.startswith(MAGIC) or head[10] != _CUSTOM:
            raise ValueError("another form")
        self._version, self.width, self._offset = (head[5], head[6]), head[8], head[9]
        if self._version not in _OLDEST_READER or not {*head[8:10]} <= {*_WIDTHS}:
            raise ValueError("a version that nobody knows")
        if self._version >= _COMPRESSION_IN_A_BYTE:
            compression = _METHODS.get(self._take(1)[0], "unknown")
        else:
            compression = "gzip" if self._number() else "none"
        for _ in range(7):  # the moment of its creation
            self._number()
        names = [self._raw(_LONGEST_NAME) for _ in range(3)]
        database, server, tool = (name.decode("utf-8", "surrogateescape") for name in names)
        entries = self._number()
        if entries <= 0:  # each tells its encoding
            raise ValueError("what cannot be")
        return Header(self._version, entries, compression, database, server, tool)

    def entries(self) -> list[_RawEntry]:
        number = self.header().entries
        if number > self._size // _SHORTEST_ENTRY:
            raise ValueError("more than it has room for")
        return [self._entry() for _ in range(number)]

    def _entry(self) -> _RawEntry:
        number = self._number()
        self._number()  # whether there is data
        self._raw(), self._raw()  # where the server kept it
        name, kind = self._raw(), self._raw()
        self._number()  # before, with or after the data
        definition = self._raw()
        self._raw()  # how it is dropped
        copy = self._raw()
        schema, tablespace = self._raw(), self._raw()
        if self._version >= _TABLE_METHOD:
            self._raw()
        if self._version >= _KIND_OF_RELATION:
            self._number()
        owner = self._raw()
        self._raw()  # with oids or without
        needs = []
        while need := self._raw():
            needs.append(int(need))
        self._take(1 + self._offset)  # where its data lies
        texts = (kind, schema, name, owner, definition, tablespace)
        return _RawEntry(number, texts, copy, tuple(needs))

    def _take(self, length: int) -> bytes:
        if length > self._size:
            raise ValueError("longer than the file")
        taken = self._archive.read(length)
        if len(taken) != length:
            raise ValueError("it ends here")
        return taken

    def _number(self) -> int:
        raw = self._take(1 + self.width)
        return (-1 if raw[0] else 1) * int.from_bytes(raw[1:], "little")

    def _raw(self, most: int = _LONGEST_FIELD) -> bytes:
        length = max(self._number(), 0)
        if length > most:
            raise ValueError("longer than it can be")
        return self._take(length)


def read_whole(
    toolchain: Toolchain,
    archive: Path,
    *,
    entries: int = 0,
    contents: int = 0,
    on_data: Callable[[bytes], None] | None = None,
    on_tick: Callable[[], None],
    on_start: command.Start = None,
) -> None:
    """Read every block of an archive; a list of its contents would prove nothing.

    For an archive of our own the limits grow with the `entries` of its table
    of contents and the size of its database, `contents` in bytes. `on_data`
    gets the rows as SQL (a RowCounter takes them). Raises DumpError if it is
    not whole; PostgresError or ToolError where that is not known, as at one of
    these limits.
    """
    size = archive.stat().st_size
    memory = _READ_MEMORY + min(entries, size // _SHORTEST_ENTRY) * _READ_MEMORY_PER_ENTRY
    seconds = int(
        _READ_SECONDS + size / _READ_BYTES_PER_SECOND + contents / _CONTENT_BYTES_PER_SECOND
    )
    target = ["-f", "/dev/null"] if on_data is None else ["--data-only", "-f", "-"]
    try:
        outcome = command.run(
            [toolchain.pg_restore, *target, archive],
            timeout=seconds,
            memory=memory,
            on_output=on_data,
            on_tick=on_tick,
            on_start=on_start,
        )
    except TimeoutError:
        raise PostgresError(
            f"reading the dump back took longer than {seconds} s and was ended",
            detail="It is not known whether the dump is whole.",
            hint="Is the disk or the processor overloaded? Start the backup again.",
        ) from None
    if outcome.status == 0:
        return
    if "out of memory" in outcome.log:
        raise PostgresError(
            f"reading the dump back needs more memory than the {memory // 1024**2} MiB it may take",
            detail="It is not known whether the dump is whole.",
            hint="Is there enough memory? Please report how many objects the database has.",
        )
    raise _unread(outcome)


def _unread(outcome: command.Outcome) -> AppError:
    """Why pg_restore gave up: a DumpError only where it spoke of the archive, or crashed on it."""
    words = outcome.last_words
    if -outcome.status in _SENT:
        return ToolError(f"pg_restore was ended by signal {-outcome.status}", detail=words)
    crashed = outcome.status < 0
    if crashed or (words and not _OF_THE_MACHINE.search(outcome.log)):
        told = words or f"pg_restore ended with status {outcome.status}."
        return DumpError("the dump cannot be read back", detail=told)
    told = words or outcome.log[-500:] or f"pg_restore ended with status {outcome.status}."
    return ToolError("pg_restore could not read the dump here", detail=told)
