"""Run one program: the only place that starts a process.

No shell, no secret in argv, its own process group. Both pipes are always read, since a
full pipe blocks the program for ever, and the program always ends.
"""

import errno
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.errors import ToolError
from app.pausing import pause
from app.programs.masking import masked

LAUNCH = str(Path(__file__).with_name("launch.py"))
_TICK = 0.25  # seconds between two calls of `on_tick` while a program is silent
_END_TICK = 0.005  # seconds between two checks for its end
_GRACE = 1.0  # seconds between SIGTERM and SIGKILL
_KEPT_LINES = 2_000  # at the start and at the end of a program's log

Line = Callable[[str], None]
Start = Callable[[int], None] | None


@dataclass(frozen=True)
class Watch:
    """What to call while a program runs; what a call raises ends it and comes out of `run`."""

    on_start: Start = None  # with its pid
    on_line: Line | None = None  # with each line of stderr
    on_output: Callable[[bytes], object] | None = None  # with stdout, which the outcome then lacks
    on_tick: Callable[[], None] | None = None  # several times a second


@dataclass(frozen=True)
class Bounds:
    """Ends a program with the thread that runs it, even after SIGKILL (Linux)."""

    memory: int = 0  # bytes of address space; 0: no limit


_BOUND, _UNWATCHED = Bounds(), Watch()


@dataclass(frozen=True)
class Outcome:
    """How a program ended; a negative status is the signal that ended it."""

    status: int
    output: str
    log: str

    @property
    def last_words(self) -> str:
        """The errors of the log and their details, in one line.

        It is cut after the reason: the query that follows can name thousands of tables.
        """
        reasons = re.findall(r"(?:error|detail|FATAL|ERROR|DETAIL): +(.*)", self.log)
        return " ".join(" ".join(reasons).split())[:2000]


class Log:
    """The first and the last lines of a long log; those between are only counted."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=_KEPT_LINES)
        self._lines = 0

    def add(self, line: str) -> None:
        self._lines += 1
        (self._head if len(self._head) < _KEPT_LINES else self._tail).append(line)

    def text(self) -> str:
        left_out = self._lines - len(self._head) - len(self._tail)
        gap = [f"[… {left_out} lines left out …]"] if left_out else []
        return "\n".join([*self._head, *gap, *self._tail])

    def latest(self, lines: int) -> str:
        """The last lines of a log that still grows, after the number of earlier ones."""
        latest = (self._head[-lines:] + list(self._tail))[-lines:]
        earlier = self._lines - len(latest)
        return "\n".join([f"[… {earlier} lines before …]"] * (earlier > 0) + latest)


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    environment: Mapping[str, str | None] | None = None,
    secrets: Sequence[str] = (),
    bounds: Bounds | None = _BOUND,
    watch: Watch = _UNWATCHED,
) -> Outcome:
    """Run a program to its end, for at most `timeout` seconds.

    `secrets` are replaced by stars in every line. Without `bounds` the program may
    outlive us. Raises ToolError if it cannot be started, TimeoutError if it takes too long.
    """
    try:
        process = subprocess.Popen(
            _command([str(part) for part in argv], bounds),
            env=_environment(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            umask=0o077,
        )
    except OSError as error:
        raise ToolError(f"{argv[0]} cannot be started", detail=f"{error.strerror}.") from error
    try:
        if watch.on_start is not None:
            watch.on_start(process.pid)
        return _attend(process, timeout, _LineReader(secrets, watch.on_line), watch)
    finally:
        _end(process)


def _command(argv: list[str], bounds: Bounds | None) -> list[str]:
    if shutil.which(argv[0]) is None:  # the launcher would fail in the same way
        reason = errno.EACCES if Path(argv[0]).exists() else errno.ENOENT
        raise ToolError(f"{argv[0]} cannot be started", detail=f"{os.strerror(reason)}.")
    if bounds is None:
        return argv
    launcher = [sys.executable, "-I", "-S", LAUNCH]
    return [*launcher, str(os.getpid()), str(bounds.memory), *argv]


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Our environment in the C locale, without our settings, which carry secrets.

    A value of None removes a variable.
    """
    ours = ("BACKSTOP_", "DATABASE_URL", "SECRET_KEY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    wanted = kept | {"LC_ALL": "C", "LANGUAGE": "C"} | dict(changes)
    return {name: value for name, value in wanted.items() if value is not None}


class _LineReader:
    """Splits bytes into lines without secrets."""

    def __init__(self, secrets: Sequence[str], on_line: Line | None) -> None:
        self._secrets, self._on_line = secrets, on_line
        self._rest = b""
        self.log = Log()

    def take(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._add(line)

    def end(self) -> None:
        if self._rest:
            self._add(self._rest)

    def _add(self, raw: bytes) -> None:
        line = masked(raw.decode("utf-8", "replace"), self._secrets)
        self.log.add(line)
        if self._on_line is not None:
            self._on_line(line)


def _attend(
    process: "subprocess.Popen[bytes]", timeout: float, reader: _LineReader, watch: Watch
) -> Outcome:
    output = bytearray()
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for stream, take in (
            (process.stdout, watch.on_output or output.extend),
            (process.stderr, reader.take),
        ):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, take)
        while selector.get_map():
            for key, _ in selector.select(_TICK):
                chunk = os.read(key.fd, 65_536)
                if chunk:
                    key.data(chunk)
                else:
                    selector.unregister(key.fileobj)
            _tick(watch.on_tick, deadline)
    reader.end()
    while not _has_ended(process):  # it may have closed its pipes earlier
        _tick(watch.on_tick, deadline)
        pause(_END_TICK)
    return Outcome(process.wait(), output.decode("utf-8", "replace"), reader.log.text())


def _tick(on_tick: Callable[[], None] | None, deadline: float) -> None:
    if on_tick is not None:
        on_tick()
    if time.monotonic() > deadline:
        raise TimeoutError


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has ended; its status is not collected yet, so its pid is not reused."""
    return psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the whole process group: by SIGTERM, then by SIGKILL."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if process.returncode is not None:
        return
    _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while not _has_ended(process) and time.monotonic() < deadline:
        pause(_END_TICK)
    _signal_group(process, signal.SIGKILL)  # also children that ignore SIGTERM
    process.wait()


def _signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    # macOS answers EPERM for a group in which only a zombie is left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
