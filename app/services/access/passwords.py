"""Passwords: their strength, hashing, and checks that never overload the machine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

from app.config import WEB_THREADS
from app.errors import InvalidInput, TooManyAttempts

MIN_LENGTH, MAX_LENGTH = 12, 1_000  # characters

# Attackers try common passwords, words, dates and adjacent keys first.
_TOO_FEW_GUESSES = 10**6
_JUDGED = 72  # characters; zxcvbn's time grows with their square

# OWASP's second choice for argon2id: 19 MiB, two passes.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

# Checked for an unknown user, so that it costs the same work. It is random and belongs to
# no password; computing one here would cost every command 0.03 s.
_NOBODYS_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1"
    "$L2yT3Cqp+efsCIAuogSGEA$qL2PXuJOtqQ133QFzD3KL4IK+H9ujn9FnzOpp1i0/0o"
)

# Two checks at once, so that a flood of sign-ins takes up neither the memory nor all
# threads. One of the two is reserved for accounts known from their address.
_PATIENCE = 10.0  # seconds that a sign-in waits for its turn
_known_turn, _strangers_turn = threading.Lock(), threading.Lock()
_strangers_places = threading.BoundedSemaphore(WEB_THREADS // 2)


def refuse_weak(password: str, username: str) -> None:
    """Raise InvalidInput for a new password that is too short, too long or too easy to guess."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InvalidInput(
            f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters",
            hint="Longer is better than complicated: four random words will do.",
        )
    judged = zxcvbn(password[:_JUDGED], user_inputs=[username, "backstop"])
    if judged["guesses"] < _TOO_FEW_GUESSES:
        raise InvalidInput(
            "this password is too easy to guess",
            detail="It is common, repeats itself, or contains your name or the panel's.",
            hint="Four random words will do.",
        )


def hash_of(password: str) -> str:
    """The hash of a password, as it is stored."""
    return _hasher.hash(password)


def is_password(password: str, kept: str | None) -> bool:
    """Whether a stored hash is that of this password; the same work without one."""
    try:
        _hasher.verify(kept or _NOBODYS_HASH, password)
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None


def is_outdated(kept: str) -> bool:
    """Whether the hash was made with less work than a new one would be."""
    return _hasher.check_needs_rehash(kept)


@contextmanager
def turn(*, known: bool) -> Iterator[None]:
    """Wait for a turn to check a password.

    Strangers leave half of the threads to others. Raises TooManyAttempts if too many
    of them wait, or one waits too long.
    """
    if known:
        with _held(_known_turn):
            yield
        return
    if not _strangers_places.acquire(blocking=False):
        raise _crowd()
    try:
        with _held(_strangers_turn):
            yield
    finally:
        _strangers_places.release()


@contextmanager
def _held(lock: threading.Lock) -> Iterator[None]:
    if not lock.acquire(timeout=_PATIENCE):
        raise _crowd()
    try:
        yield
    finally:
        lock.release()


def _crowd() -> TooManyAttempts:
    return TooManyAttempts("too many sign-ins at once", retry_after=5)
