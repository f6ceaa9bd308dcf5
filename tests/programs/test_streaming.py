"""Bytes go into programs and come out of them, and the programs end: a shell, mostly."""

import os
from collections.abc import Callable, Iterator

import psutil
import pytest

from app.errors import ToolError
from app.programs.streaming import drain, feed
from tests.postgres.conftest import PATIENCE, wait_until

ENVIRONMENT = {"PATH": os.environ["PATH"]}
BLOCK = bytes(range(256)) * 4096  # 1 MiB


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


@pytest.fixture
def children() -> Callable[[], list[psutil.Process]]:
    """Ask for the processes that a test has started and that are still there."""
    before = {child.pid for child in psutil.Process().children()}
    return lambda: [child for child in psutil.Process().children() if child.pid not in before]


def test_a_program_is_fed():
    ended = feed(shell("wc -c; exit 3"), [BLOCK] * 5, environment=ENVIRONMENT, patience=PATIENCE)
    assert (ended.status, ended.log.strip(), ended.taken) == (3, str(5 * 1024**2), 5 * 1024**2)


def test_a_program_that_stops_reading_is_no_error_of_ours():
    ended = feed(
        shell("head -c 1 >&2; exit 4"), [BLOCK] * 50, environment=ENVIRONMENT, patience=PATIENCE
    )
    assert ended.status == 4
    assert ended.taken < 50 * 1024**2


def test_a_producer_that_fails_ends_the_program_before_its_input_ends(tmp_path, children):
    def broken() -> Iterator[bytes]:
        yield b"1"
        raise BrokenPipeError("mine")

    with pytest.raises(BrokenPipeError, match="mine"):
        feed(
            shell(f"cat; echo end > {tmp_path}/end"),
            broken(),
            environment=ENVIRONMENT,
            patience=PATIENCE,
        )
    assert children() == []
    assert not (tmp_path / "end").exists()


def test_a_program_that_takes_nothing_is_ended(children):
    with pytest.raises(TimeoutError):
        feed(shell("exec sleep 60"), [BLOCK] * 5, environment=ENVIRONMENT, patience=0.1)
    assert children() == []


def test_a_program_that_does_not_end_is_ended(children):
    with pytest.raises(TimeoutError):
        feed(shell("cat; exec sleep 60"), [b"1"], environment=ENVIRONMENT, patience=0.05)
    assert children() == []


def drained(script: str, patience: float = PATIENCE) -> tuple[bytes, int, str]:
    stream = drain(shell(script), environment=ENVIRONMENT, patience=patience)
    output = b""
    while True:
        try:
            output += next(stream)
        except StopIteration as end:
            return output, end.value.status, end.value.log


def test_a_program_is_drained():
    output, status, log = drained("echo out; echo err >&2; exit 3")
    assert (output, status, log) == (b"out\n", 3, "err\n")
    assert len(drained("head -c 3000000 /dev/zero")[0]) == 3_000_000


def test_a_reader_that_stops_ends_the_program(children):
    stream = drain(shell("yes"), environment=ENVIRONMENT, patience=PATIENCE)
    assert next(stream)
    (child,) = children()
    stream.close()
    wait_until(lambda: not child.is_running(), "the program ends")


def test_a_program_that_says_nothing_is_ended(children):
    with pytest.raises(TimeoutError):
        drained("exec sleep 60", patience=0.1)
    assert children() == []


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(ToolError, match="nowhere"):
        feed(["/nowhere/rclone"], [], environment=ENVIRONMENT, patience=PATIENCE)
