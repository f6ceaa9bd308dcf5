"""Run a program beside us, with nothing of our environment: a server, and what makes one.

As in `command`: no shell, no secret in argv, a process group of its own, and on
Linux an end with the thread that started it.
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
from typing import IO

from app.errors import ToolError
from app.postgres.command import LAUNCH

_TICK = 0.02  # seconds
_LONGEST = 64 * 1024  # bytes of what a program prints


class Background:
    """A program that runs beside us."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """How it ended; None while it runs. Negative: the signal that ended it."""
        return self._process.poll()

    def end(self, *, politely: Sequence[tuple[int, float]] = ()) -> None:
        """End it with its group: by each signal and its seconds of grace, then by force."""
        for number, seconds in politely:
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def beside(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: IO[bytes],
    memory: int = 0,
    politely: Sequence[tuple[int, float]] = (),
) -> Iterator[Background]:
    """Run a program for the time of a with block; it writes to `log`.

    `environment` is all that it gets. `memory` limits the address space of
    each of its processes, in bytes. Raises ToolError if it cannot be started.
    """
    found = shutil.which(argv[0])
    if found is None:
        raise ToolError(f"{argv[0]} cannot be started", detail="It is not here.")
    launch = [sys.executable, "-I", "-S", LAUNCH, str(os.getpid()), str(memory), found, *argv[1:]]
    try:
        process = subprocess.Popen(
            launch,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
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
    """Run such a program to its end; its status, and the beginning of what it printed.

    Raises ToolError, TimeoutError; what `on_tick` raises ends it and comes out.
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
