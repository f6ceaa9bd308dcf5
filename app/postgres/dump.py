"""Make a dump with pg_dump."""

import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import AppError, DumpError, StorageFull, ToolError
from app.postgres import command
from app.postgres.connection import hint_for
from app.postgres.conninfo import Conninfo
from app.postgres.tools import Toolchain


class ObjectGone(DumpError):
    """Something that cannot be locked was dropped before pg_dump came to read it."""


@dataclass(frozen=True)
class Limits:
    """How long a dump may wait; all in seconds."""

    lock: int
    stall: int
    total: int


_HAS_GONE = re.compile(r"could not open relation with OID|cache lookup failed|does not exist")
_IN_OUR_TRANSACTION = "there is already a transaction in progress"  # in a lent session
_FIRST_ROWS = "pg_dump: dumping contents of table"


def dump(
    toolchain: Toolchain,
    info: Conninfo,
    target: Path,
    *,
    snapshot: str | None,
    compression: str,
    limits: Limits,
    environment: Mapping[str, str | None],
    on_line: command.Line,
    on_tick: Callable[[], None],
    on_start: command.Start = None,
    moved: Callable[[], object] = lambda: None,
) -> None:
    """Dump the database, as it was in the snapshot, into the file `target`.

    Without a `snapshot` `info` leads to a session that holds one (see relay.py).
    The file must be there already, empty and private: pg_dump would make one
    that others may read. What `on_tick` raises ends pg_dump and comes out.
    While the file does not grow, what `moved` returns tells by its change
    that the dump is alive. Raises DumpError, ObjectGone before any row was dumped, or
    StorageFull.
    """
    argv: list[str | Path] = [
        toolchain.pg_dump, "-F", "c", "-b", "-v", "-w",
        f"--lock-wait-timeout={limits.lock}s", *([f"--snapshot={snapshot}"] if snapshot else []),
        f"--compress={_compress_option(compression, toolchain)}",
        # What is left out here comes from PGAPPNAME: sessions are found by it.
        "-f", target, "-d", info.dsn(application_name=None),
    ]  # fmt: skip
    watch = _StallWatch(target, limits.stall, moved)

    def heard(line: str) -> None:
        watch.moved()
        if _IN_OUR_TRANSACTION not in line:
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


def dump_roles(
    toolchain: Toolchain,
    info: Conninfo,
    *,
    environment: Mapping[str, str],
    timeout: float,
    on_tick: Callable[[], None],
) -> str:
    """The server's roles, memberships and tablespaces as SQL, without passwords.

    No pg_dump has them. Raises DumpError, ToolError; where the role may not
    read them, or pg_dumpall is missing.
    """
    argv: list[str | Path] = [
        toolchain.folder / "pg_dumpall", "--globals-only", "--no-role-passwords", "-w",
        "-d", info.dsn(application_name=None),
    ]  # fmt: skip
    try:
        outcome = command.run(
            argv, environment=environment, timeout=timeout, secrets=info.secrets, on_tick=on_tick
        )
    except TimeoutError:
        raise took_too_long(int(timeout)) from None
    if outcome.status != 0:
        raise DumpError("pg_dumpall failed", detail=outcome.last_words)
    return outcome.output


def took_too_long(seconds: int) -> DumpError:
    """The error of a dump that met its overall limit."""
    return DumpError(
        f"the dump took longer than {seconds} s and was ended",
        hint="Raise BACKSTOP_DUMP_TIMEOUT if the database is that large.",
    )


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
    words = outcome.last_words
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
    is_gone = _HAS_GONE.search(words) and _FIRST_ROWS not in outcome.log
    kind = ObjectGone if is_gone else DumpError
    return kind("pg_dump failed", detail=words, hint=hint_for(words))
