"""Stream bytes into a program or out of it, however many."""

import os
import select
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from app.programs.background import Background, Pipe, beside

_BLOCK = 64 * 1024  # bytes
_LONGEST = 4 * 1024**2  # bytes of the log that are kept
_ENDING = 5  # times the patience: it may have to send what it has read


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said."""

    status: int
    log: str
    taken: int = 0  # bytes that it was given


def feed(
    argv: Sequence[str],
    chunks: Iterable[bytes],
    *,
    environment: Mapping[str, str],
    patience: float,
) -> Ended:
    """Run a program with these bytes as its input; the log has its output, too.

    Raises ToolError, TimeoutError if it takes nothing for `patience` seconds, and what
    `chunks` raises, which ends the program before its input ends.
    """
    taken = 0
    with (
        tempfile.TemporaryFile() as log,
        beside(argv, environment=environment, log=log, pipe=Pipe.INPUT) as program,
    ):
        target = program.pipe.fileno()
        os.set_blocking(target, False)
        for chunk in chunks:
            if not _give(target, chunk, patience):
                break  # it has ended
            taken += len(chunk)
        program.pipe.close()
        return _ended(program, log, patience * _ENDING, taken)


def drain(
    argv: Sequence[str], *, environment: Mapping[str, str], patience: float
) -> Generator[bytes, None, Ended]:
    """Yield what a program writes; closing the generator ends it.

    Raises ToolError, and TimeoutError if it writes nothing for `patience` seconds.
    """
    with (
        tempfile.TemporaryFile() as log,
        beside(argv, environment=environment, log=log, pipe=Pipe.OUTPUT) as program,
    ):
        source = program.pipe.fileno()
        while block := _take(source, patience):
            yield block
        return _ended(program, log, patience, 0)


def _give(target: int, chunk: bytes, patience: float) -> bool:
    rest = memoryview(chunk)
    while rest:
        _wait(target, select.POLLOUT, patience)
        try:
            rest = rest[os.write(target, rest) :]
        except BrokenPipeError:
            return False
    return True


def _take(source: int, patience: float) -> bytes:
    _wait(source, select.POLLIN, patience)
    return os.read(source, _BLOCK)


def _wait(descriptor: int, event: int, patience: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(patience * 1000):
        raise TimeoutError


def _ended(program: Background, log: IO[bytes], patience: float, taken: int) -> Ended:
    status = program.wait(patience)
    log.seek(0)
    return Ended(status, log.read(_LONGEST).decode("utf-8", "replace"), taken)
