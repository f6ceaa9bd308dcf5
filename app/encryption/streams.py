"""Bytes encrypted and decrypted as they flow, in flat memory.

The library pulls from a reader and pushes into a writer, so that it runs in a thread. That
thread and the consumer's take turns: the producer's code runs in the consumer's thread, and its
errors come out unchanged.
"""

import atexit
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from queue import SimpleQueue
from threading import Thread

from app.encryption.keys import Identity, Recipient, private_key, public_key
from app.encryption.library import age
from app.errors import AppError, InvalidInput, VerificationError

_PIECE = 256 * 1024
_NO_KEY = "No matching keys found"  # the library's words


def encrypted(chunks: Iterable[bytes], recipients: Sequence[Recipient]) -> Iterator[bytes]:
    """The bytes, encrypted to all recipients; each of them alone can decrypt them.

    How long they get is unknown before the end: the header has random padding. Holds about
    twice the largest chunk. Raises InvalidInput without recipients, ConfigurationError; later
    what `chunks` raises, and then the end is missing, so that nobody takes it for complete.
    """
    keys = _public_keys(recipients)
    return _flow(lambda ends: age().encrypt_io(ends, ends, keys), chunks)


def decrypted(chunks: Iterable[bytes], identities: Sequence[Identity]) -> Iterator[bytes]:
    """The plaintext of encrypted bytes, each piece authentic when it comes.

    Raises InvalidInput if no identity fits, VerificationError if the bytes were changed or
    are incomplete, what `chunks` raises, and ConfigurationError. What came before an error is
    not the whole: write it to a partial file.
    """
    keys = [private_key(identity) for identity in identities]
    return _flow(lambda ends: age().decrypt_io(ends, ends, keys), chunks)


def encrypted_text(content: bytes, recipients: Sequence[Recipient]) -> str:
    """Something small, encrypted, as text that `age -d` reads too.

    Raises InvalidInput without recipients, ConfigurationError.
    """
    sealed: bytes = age().encrypt(content, _public_keys(recipients), armored=True)
    return sealed.decode("ascii")


def decrypted_text(text: str, identities: Sequence[Identity]) -> bytes:
    """What `encrypted_text` encrypted.

    Raises InvalidInput if no identity fits, VerificationError, ConfigurationError.
    """
    keys = [private_key(identity) for identity in identities]
    try:
        content: bytes = age().decrypt(text.encode(), keys)
    except age().DecryptError as error:
        raise _translated(error) from error
    return content


def _public_keys(recipients: Sequence[Recipient]) -> list[object]:
    if not recipients:
        raise InvalidInput("no recipient to encrypt to", hint="Enter at least one public key.")
    return [public_key(recipient) for recipient in recipients]


def _flow(work: Callable[["_Ends"], None], chunks: Iterable[bytes]) -> Iterator[bytes]:
    source = filter(None, chunks)  # an empty one would mean the end
    ends = _Ends(work)
    try:
        for piece in ends.pieces():
            if piece:
                yield piece
            else:
                ends.give(next(source, b""))
    finally:
        ends.stop()


class _Ends:
    """Both ends of the library's work in its thread: the file it reads, and the one it writes."""

    def __init__(self, work: Callable[["_Ends"], None]) -> None:
        self._work = work
        self._inbox: SimpleQueue[bytes | None] = SimpleQueue()  # None: stop
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()  # b"": wants more; None: ended
        self._chunk = BytesIO()
        self._piece = bytearray()
        self._failure: Exception | None = OSError("no result")
        self._thread = Thread(target=self._run, name="age", daemon=True)
        self._thread.start()
        _running.add(self)

    def pieces(self) -> Iterator[bytes]:
        """What the library writes, and an empty piece when it needs the next chunk."""
        yield from iter(self._outbox.get, None)
        if self._failure is not None:
            raise _translated(self._failure) from self._failure

    def give(self, chunk: bytes) -> None:
        self._inbox.put(chunk)

    def stop(self) -> None:
        self._inbox.put(None)
        self._thread.join()
        _running.discard(self)

    def read(self, size: int) -> bytes:
        """What the library reads; it waits for the next chunk."""
        if not (part := self._chunk.read(size)):
            self._hand_over()
            self._outbox.put(b"")
            chunk = self._inbox.get()
            if chunk is None:
                raise BrokenPipeError
            self._chunk = BytesIO(chunk)
            part = self._chunk.read(size)
        return part

    def write(self, part: bytes) -> int:
        """What the library writes, gathered into larger pieces."""
        self._piece += part
        if len(self._piece) >= _PIECE:
            self._hand_over()
        return len(part)

    def flush(self) -> None:
        """Nothing: what is left is handed over at the end."""

    def _hand_over(self) -> None:
        if self._piece:
            self._outbox.put(bytes(self._piece))
            self._piece.clear()

    def _run(self) -> None:
        try:
            self._work(self)
            self._failure = None
        except (age().EncryptError, age().DecryptError, OSError) as error:
            self._failure = error
        finally:
            self._hand_over()
            self._outbox.put(None)


_running: set[_Ends] = set()


@atexit.register
def _stop_all() -> None:
    """A stream that nobody ends must neither keep the process alive nor abort its exit."""
    for ends in list(_running):
        ends.stop()


def _translated(error: Exception) -> AppError:
    if str(error) == _NO_KEY:
        return InvalidInput(
            "no private key fits",
            detail="The copy is encrypted to other recipients, or its header was changed.",
            hint="Use the private key of a recipient that it was encrypted to.",
        )
    words = " ".join(str(error).split())
    return VerificationError(
        "the encrypted data was changed or is incomplete", detail=f"age: {words}."
    )
