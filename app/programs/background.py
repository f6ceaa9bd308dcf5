"""Run a program in the background without our environment: a server, or initdb.

As in `command`: no shell, no secret in argv, its own process group, and on Linux it ends
with the thread that started it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import IO

from app.errors import ToolError
from app.programs.command import LAUNCH

_TICK = 0.02  # seconds
_LONGEST = 64 * 1024  # bytes of output that are kept


class Pipe(Enum):
    """Which end of a program we hold."""

    NONE = "none"
    INPUT = "input"
    OUTPUT = "output"


class Background:
    """A program that runs in the background."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs, negative for the signal that ended it."""
        return self._process.poll()

    @property
    def pipe(self) -> IO[bytes]:
        """Our end of its input or output; unbuffered."""
        held = self._process.stdin or self._process.stdout
        if held is None:
            raise ValueError("this program was started without a pipe")
        return held

    def wait(self, patience: float) -> int:
        """Its exit status. Raises TimeoutError if it has not ended after so many seconds."""
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None

    def end(self, *, politely: Sequence[tuple[int, float]] = ()) -> None:
        """End it and its group: by each signal and its seconds of grace, then by force."""
        for number, seconds in politely:
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for held in (self._process.stdin, self._process.stdout):
            if held is not None:
                held.close()


@contextmanager
def beside(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: IO[bytes],
    memory: int = 0,
    politely: Sequence[tuple[int, float]] = (),
    pipe: Pipe = Pipe.NONE,
) -> Iterator[Background]:
    """Run a program during a with block; it writes to `log`, unless we hold its output.

    `environment` is its whole environment. `memory` limits the address space of each of its
    processes, in bytes. Raises ToolError if it cannot be started.
    """
    path = shutil.which(argv[0])
    if path is None:
        raise ToolError(f"{argv[0]} cannot be started", detail="It was not found.")
    launch = [sys.executable, "-I", "-S", LAUNCH, str(os.getpid()), str(memory), path, *argv[1:]]
    try:
        process = subprocess.Popen(
            launch,
            env=dict(environment),
            stdin=subprocess.PIPE if pipe is Pipe.INPUT else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe is Pipe.OUTPUT else log,
            stderr=log,
            bufsize=0,
            cwd="/",
            process_group=0,
            umask=0o077,
        )
    except OSError as error:
        raise ToolError(f"{argv[0]} cannot be started", detail=f"{error.strerror}.") from error
    program = Background(process)
    try:
        yield program
    finally:
        program.end(politely=politely)


def run_alone(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout: float,
    on_tick: Callable[[], None] = lambda: None,
) -> tuple[int, str]:
    """Run such a program to its end; return its status and the beginning of its output.

    Raises ToolError, TimeoutError, and whatever `on_tick` raises, which ends the program.
    """
    deadline = time.monotonic() + timeout
    with (
        tempfile.TemporaryFile() as log,
        beside(argv, environment=environment, log=log) as program,
    ):
        while program.status is None:
            on_tick()
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(_TICK)
        log.seek(0)
        return program.status, log.read(_LONGEST).decode("utf-8", "replace")
