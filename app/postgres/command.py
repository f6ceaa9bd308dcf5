"""Run one program: the only place that starts a process.

No shell, no secret in argv, a process group of its own, both pipes read all
the time (a full pipe blocks the program for ever), and an end in any case.
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
from app.postgres.conninfo import masked

LAUNCH = str(Path(__file__).with_name("launch.py"))
_TICK = 0.25  # seconds between two looks at a program that is silent
_END_TICK = 0.005  # seconds between two looks whether it has ended
_GRACE = 1.0  # seconds between SIGTERM and SIGKILL
_KEPT_LINES = 2_000  # of each end of a program's log

Line = Callable[[str], None]
Start = Callable[[int], None] | None


@dataclass(frozen=True)
class Outcome:
    """How a program ended. A negative status is the signal that ended it."""

    status: int
    output: str
    log: str

    @property
    def last_words(self) -> str:
        """What went wrong, in one line: the errors of the log with their details.

        The reason comes first; the query that follows can name thousands of tables.
        """
        told = re.findall(r"(?:error|detail|FATAL|ERROR|DETAIL): +(.*)", self.log)
        return " ".join(" ".join(told).split())[:2000]


class Log:
    """The first and the last lines of a long log; what lies between is counted."""

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
        """The last lines, for a log that still grows; how many came before is told."""
        latest = (self._head[-lines:] + list(self._tail))[-lines:]
        before = self._lines - len(latest)
        return "\n".join([f"[… {before} lines before …]"] * (before > 0) + latest)


def run(
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str | None] | None = None,
    timeout: float,
    memory: int = 0,
    bound: bool = True,
    secrets: Sequence[str] = (),
    on_line: Line | None = None,
    on_output: Callable[[bytes], None] | None = None,
    on_tick: Callable[[], None] | None = None,
    on_start: Start = None,
) -> Outcome:
    """Run a program to its end and return how it ended.

    `timeout` is in seconds, `memory` in bytes of address space (0: no limit).
    A `bound` program ends with the thread that runs it, even after SIGKILL
    (Linux). `on_start` gets its pid, `on_line` each line of stderr, `on_output`
    what stands on stdout, in place of the outcome, `on_tick` is called several
    times a second; what they raise ends the program and comes out here.
    Secrets are replaced by stars in every line.

    Raises ToolError if the program cannot be started, TimeoutError if it
    takes too long.
    """
    command = [str(part) for part in argv]
    if shutil.which(command[0]) is None:  # the wrapper could not tell it apart
        reason = errno.EACCES if Path(command[0]).exists() else errno.ENOENT
        raise ToolError(f"{argv[0]} cannot be started", detail=f"{os.strerror(reason)}.")
    if bound:
        command = [
            sys.executable, "-I", "-S", LAUNCH, str(os.getpid()), str(memory), *command,
        ]  # fmt: skip
    try:
        process = subprocess.Popen(
            command,
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
        if on_start is not None:
            on_start(process.pid)
        return _attend(process, timeout, _LineReader(secrets, on_line), on_output, on_tick)
    finally:
        _end(process)


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Our environment without our own settings (they carry secrets), in plain C.

    None takes a variable away.
    """
    ours = ("BACKSTOP_", "DATABASE_URL", "SECRET_KEY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    wanted = kept | {"LC_ALL": "C", "LANGUAGE": "C"} | dict(changes)
    return {name: value for name, value in wanted.items() if value is not None}


class _LineReader:
    """Bytes as they come, told line by line and without secrets."""

    def __init__(self, secrets: Sequence[str], on_line: Line | None) -> None:
        self._secrets, self._on_line = secrets, on_line
        self._rest = b""
        self.log = Log()

    def take(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._tell(line)

    def end(self) -> None:
        if self._rest:
            self._tell(self._rest)

    def _tell(self, raw: bytes) -> None:
        line = masked(raw.decode("utf-8", "replace"), self._secrets)
        self.log.add(line)
        if self._on_line is not None:
            self._on_line(line)


def _attend(
    process: "subprocess.Popen[bytes]",
    timeout: float,
    reader: _LineReader,
    on_output: Callable[[bytes], None] | None,
    on_tick: Callable[[], None] | None,
) -> Outcome:
    output = bytearray()
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for stream, take in (
            (process.stdout, on_output or output.extend),
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
            _look(on_tick, deadline)
    reader.end()
    while not _has_ended(process):  # it may have closed its pipes before
        _look(on_tick, deadline)
        pause(_END_TICK)
    return Outcome(process.wait(), output.decode("utf-8", "replace"), reader.log.text())


def _look(on_tick: Callable[[], None] | None, deadline: float) -> None:
    if on_tick is not None:
        on_tick()
    if time.monotonic() > deadline:
        raise TimeoutError


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has ended, without collecting it: until then nobody else gets its pid."""
    return psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what still runs, the whole process group: politely, then not."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if process.returncode is not None:
        return
    _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while not _has_ended(process) and time.monotonic() < deadline:
        pause(_END_TICK)
    _signal_group(process, signal.SIGKILL)  # children too that do not heed SIGTERM
    process.wait()


def _signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    # macOS says EPERM for a group of which only the zombie is left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
