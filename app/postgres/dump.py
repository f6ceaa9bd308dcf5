"""Make a dump with pg_dump, and read one whole with pg_restore."""

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.errors import AppError, DumpError, StorageFull, ToolError
from app.postgres import command
from app.postgres.connection import hint_for
from app.postgres.conninfo import Conninfo
from app.postgres.tools import Toolchain

_MAGIC = b"PGDMP"

# The first major version whose pg_restore reads an archive of this format
# (src/bin/pg_dump/pg_backup_archiver.h, K_VERS_*).
_COMPRESSION_IN_A_BYTE = (1, 15)
_OLDEST_READER = {(1, 13): 10, (1, 14): 12, (1, 15): 16, (1, 16): 17}

# What reading back may take: a hostile archive gets no more, and one of ours
# needs far less. 20,000 tables (some 80,000 entries) took 89 MB of memory, and
# 500,000 large objects of pg_dump 15 (an entry each) 240 MB.
_READ_MEMORY = 1024**3  # bytes of address space; zstd's long windows need much of it
_READ_MEMORY_PER_ENTRY = 4096  # bytes
_SHORTEST_ENTRY = 64  # bytes; so a small archive cannot claim many
_READ_SECONDS = 60
_READ_BYTES_PER_SECOND = 2 * 1024**2  # of the archive; the slowest disk is faster
_CONTENT_BYTES_PER_SECOND = 20 * 1024**2  # of the database; the slowest processor is faster


@dataclass(frozen=True)
class Limits:
    """How long a dump may wait; all in seconds."""

    lock: int
    stall: int
    total: int


@dataclass(frozen=True)
class Header:
    """What the first bytes of an archive say."""

    format: tuple[int, int]
    entries: int  # of the table of contents

    @property
    def oldest_reader(self) -> int:
        """The oldest major version of pg_restore that reads it."""
        return _OLDEST_READER.get(self.format, max(_OLDEST_READER.values()))


def dump(
    toolchain: Toolchain,
    info: Conninfo,
    target: Path,
    *,
    snapshot: str,
    compression: str,
    limits: Limits,
    environment: Mapping[str, str],
    on_line: command.Line,
    on_tick: Callable[[], None],
    on_start: command.Start = None,
    moved: Callable[[], object] = lambda: None,
) -> None:
    """Dump the database, as it was in the snapshot, into the file `target`.

    The file must be there already, empty and private: pg_dump would make one
    that others may read. What `on_tick` raises ends pg_dump and comes out.
    While the file does not grow, what `moved` returns tells by its change
    that the dump is alive. Raises DumpError, or StorageFull.
    """
    argv: list[str | Path] = [
        toolchain.pg_dump, "-F", "c", "-b", "-v", "-w",
        f"--lock-wait-timeout={limits.lock}s", f"--snapshot={snapshot}",
        f"--compress={_compress_option(compression, toolchain)}",
        # What is left out here comes from PGAPPNAME: sessions are found by it.
        "-f", target, "-d", info.dsn(application_name=None),
    ]  # fmt: skip
    watch = _StallWatch(target, limits.stall, moved)

    def heard(line: str) -> None:
        watch.moved()
        on_line(line)

    def tick() -> None:
        watch.look()
        on_tick()

    try:
        outcome = command.run(
            argv,
            environment=environment,
            timeout=limits.total,
            secrets=info.secrets,
            on_line=heard,
            on_tick=tick,
            on_start=on_start,
        )
    except TimeoutError:
        raise took_too_long(limits.total) from None
    if outcome.status != 0:
        raise _failure(outcome, limits)


def took_too_long(seconds: int) -> DumpError:
    """The error of a dump that met its overall limit."""
    return DumpError(
        f"the dump took longer than {seconds} s and was ended",
        hint="Raise BACKSTOP_DUMP_TIMEOUT if the database is that large.",
    )


def read_whole(
    toolchain: Toolchain,
    archive: Path,
    *,
    entries: int = 0,
    contents: int = 0,
    on_tick: Callable[[], None],
    on_start: command.Start = None,
) -> None:
    """Read every block of an archive; a list of its contents would prove nothing.

    For an archive of our own the limits grow with the `entries` of its table
    of contents and the size of its database, `contents` in bytes. Raises DumpError if it is not
    whole, or met one of these limits.
    """
    size = archive.stat().st_size
    memory = _READ_MEMORY + min(entries, size // _SHORTEST_ENTRY) * _READ_MEMORY_PER_ENTRY
    seconds = int(
        _READ_SECONDS + size / _READ_BYTES_PER_SECOND + contents / _CONTENT_BYTES_PER_SECOND
    )
    try:
        outcome = command.run(
            [toolchain.pg_restore, "-f", "/dev/null", archive],
            timeout=seconds,
            memory=memory,
            on_tick=on_tick,
            on_start=on_start,
        )
    except TimeoutError:
        raise DumpError(
            f"reading the dump back took longer than {seconds} s and was ended",
            detail="It is not known whether the dump is whole.",
            hint="Is the disk or the processor overloaded? Start the backup again.",
        ) from None
    if outcome.status == 0:
        return
    if "out of memory" in outcome.log:
        raise DumpError(
            f"reading the dump back needs more memory than the {memory // 1024**2} MiB it may take",
            detail="It is not known whether the dump is whole.",
            hint="Is there enough memory? Please report how many objects the database has.",
        )
    raise DumpError(
        "the dump cannot be read back",
        detail=_last_words(outcome.log) or f"pg_restore ended with status {outcome.status}.",
    )


def read_header(archive: BinaryIO) -> Header:
    """Read the header of a custom-format archive. Raises DumpError if it is none.

    Its form: src/bin/pg_dump/pg_backup_archiver.c, WriteHead and WriteToc.
    """
    head = archive.read(11)
    if len(head) < 11 or not head.startswith(_MAGIC) or head[10] != 1:  # noqa: PLR2004
        raise DumpError("the file is not an archive of pg_dump's custom format")
    version, width = (head[5], head[6]), head[8]

    def number() -> int:
        raw = archive.read(1 + width)
        if len(raw) != 1 + width:
            raise ValueError("it ends here")
        return (-1 if raw[0] else 1) * int.from_bytes(raw[1:], "little")

    try:
        archive.read(1) if version >= _COMPRESSION_IN_A_BYTE else number()
        for _ in range(7):  # the moment of its creation
            number()
        for _ in range(3):  # the names of database, server and pg_dump
            archive.seek(max(number(), 0), os.SEEK_CUR)
        return Header(version, number())
    except (ValueError, OverflowError, OSError) as error:
        raise DumpError("the file is not an archive of pg_dump's custom format") from error


def _compress_option(compression: str, toolchain: Toolchain) -> str:
    """The method as this pg_dump writes it: before 16 a number, 6 being zlib's default."""
    if toolchain.version.major >= 16:  # noqa: PLR2004
        return compression
    if compression == "none":
        return "0"
    level = re.search(r"\d+", compression)
    return level[0] if level else "6"


class _StallWatch:
    """Ends a dump in which neither bytes nor rows nor words move any more."""

    def __init__(self, target: Path, limit: int, others: Callable[[], object]) -> None:
        self._target, self._limit, self._others = target, limit, others
        self._last: object = None
        self._since = time.monotonic()

    def moved(self) -> None:
        self._since = time.monotonic()

    def look(self) -> None:
        try:
            size = self._target.stat().st_size
        except OSError as error:
            raise DumpError(
                "the dump was removed while it was written", detail=f"{error.strerror}."
            ) from error
        if (current := (size, self._others())) != self._last:
            self._last = current
            self.moved()
        elif time.monotonic() > self._since + self._limit:
            raise DumpError(
                f"the dump did not move for {self._limit} s and was ended",
                hint="Look at the network and at the server's load;"
                " BACKSTOP_STALL_TIMEOUT sets how long is too long.",
            )


def _failure(outcome: command.Outcome, limits: Limits) -> AppError:
    words = _last_words(outcome.log)
    # Not the server's disk: what the server says begins with ERROR.
    if re.search(r"^(?!.*ERROR:).*No space left on device", outcome.log, re.MULTILINE):
        return StorageFull(
            "no space is left where the dump is written",
            detail=words,
            hint="Free some space, or move BACKSTOP_BACKUP_DIR to a larger disk.",
        )
    if outcome.status == -signal.SIGXFSZ:
        return StorageFull(
            "the dump is larger than a file may be here",
            detail=words,
            hint="Raise the limit on the size of files (ulimit -f, LimitFSIZE=).",
        )
    # pg_dump waits for its locks under a statement_timeout.
    if "LOCK TABLE" in words and "timeout" in words:
        return DumpError(
            f"a table stayed locked for longer than {limits.lock} s",
            detail=words,
            hint="Find the session that holds the lock in pg_stat_activity,"
            " or raise BACKSTOP_LOCK_TIMEOUT.",
        )
    if "row-level security" in words or "row security" in words:
        return DumpError(
            "row-level security hides rows from this role",
            detail=words,
            hint="Give the role BYPASSRLS: a dump without those rows would not be a backup.",
        )
    if outcome.status < 0:
        return ToolError(f"pg_dump was ended by signal {-outcome.status}", detail=words)
    return DumpError("pg_dump failed", detail=words, hint=hint_for(words))


def _last_words(log: str) -> str:
    """What went wrong, in one line: the errors of a log with their details.

    The reason comes first; the query that follows can name thousands of tables.
    """
    told = re.findall(r"(?:error|detail|FATAL|ERROR|DETAIL): +(.*)", log)
    return " ".join(" ".join(told).split())[:2000]
