"""Make a dump with pg_dump."""

import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import AppError, DumpError, StorageFull, ToolError
from app.postgres.connection import hint_for
from app.postgres.conninfo import Conninfo
from app.postgres.tools import Toolchain
from app.programs import command


class PgDumpFailed(DumpError):
    """pg_dump has ended with an error."""


class ObjectGone(DumpError):
    """An object that cannot be locked was dropped before pg_dump read it."""


@dataclass(frozen=True)
class Limits:
    """How long a dump may wait, in seconds."""

    lock: int
    stall: int
    total: int


@dataclass(frozen=True)
class Request:
    """The database to dump, and how."""

    toolchain: Toolchain
    info: Conninfo
    environment: Mapping[str, str | None]  # to sign in
    snapshot: str | None  # None: `info` leads to a session that holds one (see relay.py)
    compression: str
    without_rows_of: tuple[tuple[str, str], ...] = ()  # schema and name of tables


_HAS_GONE = re.compile(r"could not open relation with OID|cache lookup failed|does not exist")
_ALREADY_BEGUN = "there is already a transaction in progress"  # in a lent session
_REST = 20  # times as long as a look at the folder of the parts took
_FIRST_ROWS = "pg_dump: dumping contents of table"


class Written:
    """The bytes that a dump has written so far: to its file, and to the folder of its parts."""

    def __init__(self, target: Path, folder: Path | None = None) -> None:
        self._target, self._folder = target, folder
        self._in_folder, self._next_look = 0, 0.0

    def size(self) -> int:
        """Raises DumpError where the file is gone."""
        try:
            return self._target.stat().st_size + self._parts()
        except OSError as error:
            raise DumpError(
                "the dump was removed while it was written", detail=f"{error.strerror}."
            ) from error

    def _parts(self) -> int:
        """The size of the folder; it can have many files, so few looks are taken then."""
        began = time.monotonic()
        if self._folder is not None and began >= self._next_look:
            with os.scandir(self._folder) as files:
                self._in_folder = sum(map(_size_of, files))
            self._next_look = began + _REST * (time.monotonic() - began)
        return self._in_folder


def _size_of(file: os.DirEntry[str]) -> int:
    try:
        return file.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # it has moved into the archive
        return 0


def dump(
    request: Request,
    target: Path,
    *,
    limits: Limits,
    watch: command.Watch,
    sign_of_life: Callable[[int], object] = lambda _: None,
) -> None:
    """Dump the database, as it was in the snapshot, into the file `target`.

    The file must exist, empty and private: pg_dump would create one that others can read.
    `sign_of_life` gets the bytes written so far; while its value changes, a dump is alive
    whose file does not grow. Raises DumpError, ObjectGone before any row is dumped, or StorageFull.
    """
    alive = StallGuard(Written(target), limits.stall, sign_of_life)
    run_pg_dump(request, ["-F", "c", "-b", "-f", target], limits, alive.added_to(watch))


def run_pg_dump(
    request: Request,
    options: list[str | Path],
    limits: Limits,
    watch: command.Watch,
) -> None:
    """Run pg_dump to its end. Raises as `dump`, and ToolError."""
    argv: list[str | Path] = [
        request.toolchain.pg_dump, *options, "-v", "-w", f"--lock-wait-timeout={limits.lock}s",
        *([f"--snapshot={request.snapshot}"] if request.snapshot else []),
        *(f"--exclude-table-data={_pattern(*table)}" for table in request.without_rows_of),
        f"--compress={_compress_option(request.compression, request.toolchain)}",
        # PGAPPNAME sets the application name, by which sessions are found.
        "-d", request.info.dsn(application_name=None),
    ]  # fmt: skip
    if watch.on_line is not None:
        watch.on_line(shlex.join(map(str, argv)))
    try:
        outcome = command.run(
            argv,
            environment=request.environment,
            timeout=limits.total,
            secrets=request.info.secrets,
            watch=watch,
        )
    except TimeoutError:
        raise took_too_long(limits.total) from None
    if outcome.status != 0:
        raise _failure(outcome, limits)


def _pattern(schema: str, name: str) -> str:
    """A pattern of pg_dump that means this table alone."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))


def dump_roles(
    toolchain: Toolchain,
    info: Conninfo,
    *,
    environment: Mapping[str, str],
    timeout: float,
    on_tick: Callable[[], None],
) -> str:
    """The server's roles, memberships and tablespaces as SQL, without passwords.

    pg_dump leaves them out. Raises DumpError where the role may not read them, and
    ToolError without pg_dumpall.
    """
    argv: list[str | Path] = [
        toolchain.folder / "pg_dumpall", "--globals-only", "--no-role-passwords", "-w",
        "-d", info.dsn(application_name=None),
    ]  # fmt: skip
    try:
        outcome = command.run(
            argv,
            environment=environment,
            timeout=timeout,
            secrets=info.secrets,
            watch=command.Watch(on_tick=on_tick),
        )
    except TimeoutError:
        raise took_too_long(int(timeout)) from None
    if outcome.status != 0:
        raise DumpError("pg_dumpall failed", detail=outcome.last_words)
    return outcome.output


def took_too_long(seconds: int) -> DumpError:
    """The error of a dump that reached its time limit."""
    return DumpError(
        f"the dump took longer than {seconds} s and was ended",
        hint="Raise BACKSTOP_DUMP_TIMEOUT if the database is that large.",
    )


def _compress_option(compression: str, toolchain: Toolchain) -> str:
    """The method as this pg_dump takes it: a number before 16, where 6 is zlib's default."""
    if toolchain.version.major >= 16:  # noqa: PLR2004
        return compression
    if compression == "none":
        return "0"
    level = re.search(r"\d+", compression)
    return level[0] if level else "6"


class StallGuard:
    """Ends a dump that writes no byte, copies no row and prints no line any more."""

    def __init__(self, written: Written, limit: int, sign_of_life: Callable[[int], object]) -> None:
        self._written, self._limit, self._sign_of_life = written, limit, sign_of_life
        self._last: object = None
        self._since = time.monotonic()

    def added_to(self, watch: command.Watch) -> command.Watch:
        """The same calls, and the guard before them."""

        def on_line(line: str) -> None:
            self._since = time.monotonic()
            if watch.on_line is not None and _ALREADY_BEGUN not in line:
                watch.on_line(line)

        def on_tick() -> None:
            self._check()
            if watch.on_tick is not None:
                watch.on_tick()

        return replace(watch, on_line=on_line, on_tick=on_tick)

    def _check(self) -> None:
        size = self._written.size()
        if (current := (size, self._sign_of_life(size))) != self._last:
            self._last, self._since = current, time.monotonic()
        elif time.monotonic() > self._since + self._limit:
            raise DumpError(
                f"the dump did not move for {self._limit} s and was ended",
                hint="Look at the network and at the server's load;"
                " BACKSTOP_STALL_TIMEOUT sets how long is too long.",
            )


def _failure(outcome: command.Outcome, limits: Limits) -> AppError:
    words = outcome.last_words
    # Lines with ERROR come from the server, and speak of its disk.
    if re.search(r"^(?!.*ERROR:).*No space left on device", outcome.log, re.MULTILINE):
        return StorageFull(
            "no space is left where the dump is written",
            detail=words,
            hint="Free some space, or move BACKSTOP_BACKUP_DIR to a larger disk.",
        )
    if outcome.status == -signal.SIGXFSZ:
        return StorageFull(
            "the dump is larger than the limit on the size of a file",
            detail=words,
            hint="Raise the limit on the size of files (ulimit -f, LimitFSIZE=).",
        )
    # pg_dump waits for its locks under a statement_timeout.
    if "LOCK TABLE" in words and "timeout" in words:
        return PgDumpFailed(
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
    is_gone = _HAS_GONE.search(words) and _FIRST_ROWS not in outcome.log
    kind = ObjectGone if is_gone else PgDumpFailed
    return kind("pg_dump failed", detail=words, hint=hint_for(words))
