"""Make a dump with pg_dump."""

import re
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

    info: Conninfo
    environment: Mapping[str, str | None]  # to sign in
    snapshot: str | None  # None: `info` leads to a session that holds one (see relay.py)
    compression: str
    without_rows_of: tuple[tuple[str, str], ...] = ()  # schema and name of tables


_HAS_GONE = re.compile(r"could not open relation with OID|cache lookup failed|does not exist")
_ALREADY_BEGUN = "there is already a transaction in progress"  # in a lent session
_FIRST_ROWS = "pg_dump: dumping contents of table"


def dump(
    toolchain: Toolchain,
    request: Request,
    target: Path,
    *,
    limits: Limits,
    watch: command.Watch,
    sign_of_life: Callable[[], object] = lambda: None,
) -> None:
    """Dump the database, as it was in the snapshot, into the file `target`.

    The file must exist, empty and private: pg_dump would create one that others can read.
    A dump whose file does not grow is alive as long as the value of `sign_of_life`
    changes. Raises DumpError, ObjectGone before any row is dumped, or StorageFull.
    """
    guard = _StallGuard(target, limits.stall, sign_of_life)
    try:
        outcome = command.run(
            _pg_dump(toolchain, request, target, limits),
            environment=request.environment,
            timeout=limits.total,
            secrets=request.info.secrets,
            watch=guard.added_to(watch),
        )
    except TimeoutError:
        raise took_too_long(limits.total) from None
    if outcome.status != 0:
        raise _failure(outcome, limits)


def _pg_dump(
    toolchain: Toolchain, request: Request, target: Path, limits: Limits
) -> list[str | Path]:
    return [
        toolchain.pg_dump, "-F", "c", "-b", "-v", "-w", f"--lock-wait-timeout={limits.lock}s",
        *([f"--snapshot={request.snapshot}"] if request.snapshot else []),
        *(f"--exclude-table-data={_pattern(*table)}" for table in request.without_rows_of),
        f"--compress={_compress_option(request.compression, toolchain)}",
        # PGAPPNAME sets the application name, by which sessions are found.
        "-f", target, "-d", request.info.dsn(application_name=None),
    ]  # fmt: skip


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


class _StallGuard:
    """Ends a dump that writes no byte, copies no row and prints no line any more."""

    def __init__(self, target: Path, limit: int, sign_of_life: Callable[[], object]) -> None:
        self._target, self._limit, self._sign_of_life = target, limit, sign_of_life
        self._last: object = None
        self._since = time.monotonic()

    def added_to(self, watch: command.Watch) -> command.Watch:
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
        try:
            size = self._target.stat().st_size
        except OSError as error:
            raise DumpError(
                "the dump was removed while it was written", detail=f"{error.strerror}."
            ) from error
        if (current := (size, self._sign_of_life())) != self._last:
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
    is_gone = _HAS_GONE.search(words) and _FIRST_ROWS not in outcome.log
    kind = ObjectGone if is_gone else DumpError
    return kind("pg_dump failed", detail=words, hint=hint_for(words))
