"""What an archive of pg_dump holds, and whether all of it can be read.

The custom format: src/bin/pg_dump/pg_backup_archiver.c (ReadHead,
ReadToc) and pg_backup_custom.c. Reading it here gives every name as it is;
the list that pg_restore prints cannot be split at names with spaces.
"""

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from app.errors import AppError, DumpError, PostgresError, StorageError, ToolError
from app.postgres.encodings import python_codec
from app.postgres.tools import Toolchain
from app.programs import command

MAGIC = b"PGDMP"
_CUSTOM = 1

# Features by version of the format, and the first major version whose pg_restore reads it
# (pg_backup_archiver.h, K_VERS_*).
_TABLE_METHOD, _COMPRESSION_IN_A_BYTE, _KIND_OF_RELATION = (1, 14), (1, 15), (1, 16)
_OLDEST_READER = {(1, 12): 10, (1, 13): 10, (1, 14): 12, (1, 15): 16, (1, 16): 17}

_METHODS = {0: "none", 1: "gzip", 2: "lz4", 3: "zstd"}  # pg_compress_algorithm

# The limits of reading back, also for a hostile archive. Ours need far less: 20,000
# tables (some 80,000 entries) took 89 MB of memory, and 500,000 large objects of
# pg_dump 15 (an entry each) 240 MB.
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

# Signals of others, such as of the kernel when memory is short.
_SENT = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Errors of the machine in the log of pg_restore, as opposed to those of the archive.
_OF_THE_MACHINE = re.compile(
    r"could not (open|close|create) |could not write|Input/output error|No space left"
    r"|Permission denied|Stale file handle|Too many open files|error while loading shared"
)

_CLIENT_ENCODING = re.compile(rb"client_encoding = '([^']*)'")

_UNWATCHED = command.Watch()
_NO_ARCHIVE = "the file is not an archive of pg_dump's custom format"


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


@dataclass(frozen=True)
class Entry:
    """One entry of an archive's table of contents."""

    id: int
    kind: str  # "TABLE", "TABLE DATA", "FK CONSTRAINT", …
    schema: str
    name: str
    owner: str
    definition: str
    copy: bytes  # the COPY statement before its rows, as in the archive
    needs: tuple[int, ...]  # ids of the entries it depends on
    tablespace: str = ""  # empty: that of the database

    @property
    def sequence_value(self) -> tuple[int, bool] | None:
        """The value of a sequence that it sets, and whether that value was used."""
        match = _SETVAL.search(self.definition) if self.kind == "SEQUENCE SET" else None
        return (int(match[1]), match[2] == "true") if match else None


def read_header(archive: BinaryIO) -> Header:
    """Read the header. Raises DumpError if this is not a custom-format archive, StorageError."""
    try:
        return _Reader(archive).header()
    except (ValueError, OverflowError) as error:
        raise DumpError(_NO_ARCHIVE) from error
    except OSError as error:
        raise _not_read(error) from error


def read_entries(archive: BinaryIO) -> list[Entry]:
    """Read the table of contents. Raises DumpError if it is damaged, StorageError."""
    try:
        reader = _Reader(archive)
        return _decoded(reader.entries())
    except (ValueError, OverflowError) as error:
        raise DumpError(_NO_ARCHIVE, detail="Its table of contents cannot be read.") from error
    except OSError as error:
        raise _not_read(error) from error


def number_width(archive: BinaryIO) -> int:
    """Bytes of a number without its sign; leaves the archive after its table of contents."""
    reader = _Reader(archive)
    reader.entries()
    return reader.width


def _not_read(error: OSError) -> StorageError:
    return StorageError("the dump could not be read", detail=f"{error.strerror or error}.")


class _RawEntry(NamedTuple):
    """An entry in an encoding that is not known yet."""

    id: int
    texts: tuple[bytes, ...]  # kind, schema, name, owner, definition, tablespace
    copy: bytes
    needs: tuple[int, ...]


def _decoded(raw: list[_RawEntry]) -> list[Entry]:
    """Decode by the ENCODING entry; bytes that do not fit become surrogates."""
    setting = next((entry.texts[4] for entry in raw if entry.texts[0] == b"ENCODING"), b"")
    match = _CLIENT_ENCODING.search(setting)
    codec = python_codec(match[1].decode("ascii", "replace") if match else "UTF8")
    entries = []
    for entry in raw:
        kind, schema, name, owner, definition, tablespace = (
            text.decode(codec, "surrogateescape") for text in entry.texts
        )
        entries.append(
            Entry(
                entry.id, kind, schema, name, owner, definition, entry.copy, entry.needs, tablespace
            )
        )
    return entries


class _Reader:
    """Reads numbers and texts of an archive in order; ValueError where it ends early."""

    def __init__(self, archive: BinaryIO) -> None:
        self._archive = archive
        self._size = archive.seek(0, os.SEEK_END)
        archive.seek(0)

    def header(self) -> Header:
        head = self._take(11)
        if not head.startswith(MAGIC) or head[10] != _CUSTOM:
            raise ValueError("another format")
        self._version, self.width, self._offset = (head[5], head[6]), head[8], head[9]
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

    def entries(self) -> list[_RawEntry]:
        number = self.header().entries
        if number > self._size // _SHORTEST_ENTRY:
            raise ValueError("more entries than fit")
        return [self._entry() for _ in range(number)]

    def _entry(self) -> _RawEntry:
        number = self._number()
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
        self._take(1 + self._offset)  # the offset of its data
        texts = (kind, schema, name, owner, definition, tablespace)
        return _RawEntry(number, texts, copy, tuple(needs))

    def _take(self, length: int) -> bytes:
        if length > self._size:
            raise ValueError("longer than the file")
        taken = self._archive.read(length)
        if len(taken) != length:
            raise ValueError("the file ends early")
        return taken

    def _number(self) -> int:
        raw = self._take(1 + self.width)
        return (-1 if raw[0] else 1) * int.from_bytes(raw[1:], "little")

    def _raw(self, most: int = _LONGEST_FIELD) -> bytes:
        length = max(self._number(), 0)
        if length > most:
            raise ValueError("longer than possible")
        return self._take(length)


@dataclass(frozen=True)
class Expected:
    """How much an archive holds, as far as that can be believed."""

    entries: int = 0  # of its table of contents
    contents: int = 0  # bytes of its database

    def limits(self, size: int) -> tuple[int, int]:
        """The seconds and the bytes of memory to read an archive of `size` bytes."""
        entries = min(self.entries, size // _SHORTEST_ENTRY)
        seconds = _READ_SECONDS + size / _READ_BYTES_PER_SECOND
        seconds += self.contents / _CONTENT_BYTES_PER_SECOND
        return int(seconds), _READ_MEMORY + entries * _READ_MEMORY_PER_ENTRY


_LEAST = Expected()


def read_whole(
    toolchain: Toolchain,
    archive: Path,
    expected: Expected = _LEAST,
    watch: command.Watch = _UNWATCHED,
) -> None:
    """Read every block of an archive; a list of its contents would prove nothing.

    An `on_output` gets the rows as SQL, for a RowCounter. Raises DumpError for an archive
    that is damaged or cut off; PostgresError or ToolError where that remains unknown, as
    at a limit.
    """
    seconds, memory = expected.limits(archive.stat().st_size)
    target = ["-f", "/dev/null"] if watch.on_output is None else ["--data-only", "-f", "-"]
    try:
        outcome = command.run(
            [toolchain.pg_restore, *target, archive],
            timeout=seconds,
            bounds=command.Bounds(memory),
            watch=watch,
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
    """The error of pg_restore: a DumpError only if it is about the archive, or a crash."""
    words = outcome.last_words
    if -outcome.status in _SENT:
        return ToolError(f"pg_restore was ended by signal {-outcome.status}", detail=words)
    crashed = outcome.status < 0
    if crashed or (words and not _OF_THE_MACHINE.search(outcome.log)):
        reason = words or f"pg_restore ended with status {outcome.status}."
        return DumpError("the dump cannot be read back", detail=reason)
    reason = words or outcome.log[-500:] or f"pg_restore ended with status {outcome.status}."
    return ToolError("pg_restore could not read the dump here", detail=reason)
