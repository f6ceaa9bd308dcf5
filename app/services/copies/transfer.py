"""Bytes on their way to and from a store: hashed, counted, slowed down, and cancelled.

Dumps and exports of the catalogue go the same way.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from app.encryption import Identity, decrypted, encrypted, parse_recipient
from app.errors import VerificationError
from app.models import Store
from app.pausing import pause
from app.services.copies.mark import Mark, Measured, make_mark, object_key
from app.stores import Store as OpenStore

BLOCK = 1024**2  # bytes
_NAP = 0.25  # seconds


OnBlock = Callable[[int], None]  # gets the size of each block in bytes


@dataclass(frozen=True)
class Outgoing:
    """A file that is sent to a store."""

    filename: str  # under which it is found there
    blocks: Iterable[bytes]
    measured: Measured  # what it must be to its end
    manifest: bytes
    what: str  # it is, for errors
    token: str = ""  # in its key, where an older copy stays meanwhile


def upload(
    target: OpenStore, store: Store, outgoing: Outgoing, on_wait: Callable[[], None]
) -> Mark:
    """Send a file, encrypted if the store has recipients; returns its mark, which is not written.

    `on_wait` is called while the limit of the store makes it wait; what that or the blocks
    raise comes out, and nothing is left. Raises VerificationError where they are not what they
    must be, StorageError.
    """
    recipients = [parse_recipient(text) for text in store.recipients]
    whole = exactly(outgoing.blocks, outgoing.measured, outgoing.what)
    chunks = encrypted(whole, recipients) if recipients else whole
    stored = Hashed(limited(chunks, store.bytes_per_second, on_wait))
    is_encrypted = bool(recipients)
    key = object_key(outgoing.filename, is_encrypted=is_encrypted, token=outgoing.token)
    target.put(key, stored, expected_size=outgoing.measured.size)
    return make_mark(
        key,
        stored=stored.measured,
        dump=outgoing.measured,
        manifest=outgoing.manifest,
        to=recipients,
    )


def read_back(target: OpenStore, mark: Mark, what: str, on_block: OnBlock) -> None:
    """Read an object to its end. Raises ObjectMissing, VerificationError, StorageError."""
    for chunk in exactly(target.read(mark.key), mark.stored, what):
        on_block(len(chunk))


def plain(
    target: OpenStore, mark: Mark, identities: Sequence[Identity], what: str
) -> Iterator[bytes]:
    """An object as it was before it was encrypted; it must be whole both ways.

    Raises as `read_back`, and InvalidInput without an identity that fits.
    """
    stored = exactly(target.read(mark.key), mark.stored, what)
    chunks = decrypted(stored, identities) if mark.is_encrypted else stored
    return exactly(chunks, mark.dump, what)


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


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """A file in blocks."""
    while block := file.read(BLOCK):
        yield block


def reported(blocks: Iterable[bytes], on_block: OnBlock) -> Iterator[bytes]:
    """The same blocks; `on_block` gets the size of each one before somebody takes it."""
    for block in blocks:
        on_block(len(block))
        yield block


def in_own_thread(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, taken in another thread.

    The library that writes to a store cannot read from one while it waits for a chunk.
    """
    with ThreadPoolExecutor(1) as thread:
        while (chunk := thread.submit(next, chunks, None).result()) is not None:
            yield chunk


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
