"""Bytes on their way to and from a store: hashed, counted, slowed down, and cancelled."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from app.errors import VerificationError
from app.pausing import pause
from app.services.copies.mark import Measured

BLOCK = 1024**2  # bytes
_NAP = 0.25  # seconds


class Hashed:
    """Chunks that are counted and hashed while somebody else takes them."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self.size = 0  # bytes so far

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            self._digest.update(chunk)
            yield chunk

    @property
    def measured(self) -> Measured:
        """Of the chunks so far."""
        return Measured(self.size, self._digest.hexdigest())


def blocks_of(file: BinaryIO, on_block: Callable[[int], None]) -> Iterator[bytes]:
    """A file in blocks; `on_block` gets the size of each one."""
    while block := file.read(BLOCK):
        on_block(len(block))
        yield block


def limited(
    chunks: Iterable[bytes], bytes_per_second: int | None, on_tick: Callable[[], None]
) -> Iterator[bytes]:
    """The same chunks, no faster than that on average; `on_tick` is called while they wait."""
    began, size = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        size += len(chunk)
        while bytes_per_second and time.monotonic() < began + size / bytes_per_second:
            on_tick()
            pause(min(_NAP, began + size / bytes_per_second - time.monotonic()))


def exactly(chunks: Iterable[bytes], expected: Measured, what: str) -> Iterator[bytes]:
    """The same chunks, which never end as if they were whole while they differ.

    Raises VerificationError as soon as they are more than expected, and at the end if their
    size or SHA-256 differs.
    """
    hashed = Hashed(chunks)
    for chunk in hashed:
        if hashed.size > expected.size:
            raise VerificationError(f"{what} is larger than it was")
        yield chunk
    if hashed.measured != expected:
        raise VerificationError(f"{what} was changed")


def drained(chunks: Iterable[bytes], on_block: Callable[[int], None]) -> None:
    """Read chunks to their end, for what they raise; `on_block` gets the size of each one."""
    for chunk in chunks:
        on_block(len(chunk))
