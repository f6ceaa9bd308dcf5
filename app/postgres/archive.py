"""What an archive of pg_dump holds, and whether all of it can be read.

Reading its table of contents here gives every name as it is; the list that
pg_restore prints cannot be split at names with spaces.
"""

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.errors import AppError, DumpError, PostgresError, StorageError, ToolError
from app.postgres.contents import SHORTEST_ENTRY, Header, RawEntry, Reader
from app.postgres.encodings import python_codec
from app.postgres.tools import Toolchain
from app.programs import command

# The limits of reading back, also for a hostile archive. Ours need far less: 20,000
# tables (some 80,000 entries) took 89 MB of memory, and 500,000 large objects of
# pg_dump 15 (an entry each) 240 MB.
_READ_MEMORY = 1024**3  # bytes of address space; zstd's long windows need much of it
_READ_MEMORY_PER_ENTRY = 4096  # bytes
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
        return Reader(archive).header()
    except (ValueError, OverflowError) as error:
        raise DumpError(_NO_ARCHIVE) from error
    except OSError as error:
        raise _not_read(error) from error


def read_entries(archive: BinaryIO) -> list[Entry]:
    """Read the table of contents. Raises DumpError if it is damaged, StorageError."""
    try:
        reader = Reader(archive)
        return _decoded(list(reader.entries()))
    except (ValueError, OverflowError) as error:
        raise DumpError(_NO_ARCHIVE, detail="Its table of contents cannot be read.") from error
    except OSError as error:
        raise _not_read(error) from error


def number_width(archive: BinaryIO) -> int:
    """Bytes of a number without its sign; leaves the archive after its table of contents."""
    reader = Reader(archive)
    for _ in reader.entries():
        pass
    return reader.width


def _not_read(error: OSError) -> StorageError:
    return StorageError("the dump could not be read", detail=f"{error.strerror or error}.")


def _decoded(raw: list[RawEntry]) -> list[Entry]:
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


@dataclass(frozen=True)
class Expected:
    """How much an archive holds, as far as that can be believed."""

    entries: int = 0  # of its table of contents
    contents: int = 0  # bytes of its database

    def limits(self, size: int) -> tuple[int, int]:
        """The seconds and the bytes of memory to read an archive of `size` bytes."""
        entries = min(self.entries, size // SHORTEST_ENTRY)
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


def write_schema(
    toolchain: Toolchain, archive: Path, target: BinaryIO, expected: Expected = _LEAST
) -> None:
    """Write all definitions of an archive as SQL, in its encoding.

    Raises DumpError for an archive that is damaged, PostgresError, ToolError.
    """
    seconds, memory = expected.limits(archive.stat().st_size)
    try:
        outcome = command.run(
            [toolchain.pg_restore, "--schema-only", "-f", "-", archive],
            timeout=seconds,
            bounds=command.Bounds(memory),
            watch=command.Watch(on_output=target.write),
        )
    except TimeoutError:
        raise PostgresError(
            f"reading the schema took longer than {seconds} s and was ended",
            hint="Is the disk or the processor overloaded? Try again.",
        ) from None
    if outcome.status:
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
