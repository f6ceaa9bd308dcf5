"""Files whose owner is known to live by the lock that it holds on them.

A lock ends with its holder, however that ends; a pid in a name can come again.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app import host


def create_locked(path: Path) -> int:
    """Make a new file, private and locked, and return its descriptor.

    The lock lasts until that is closed. Raises OSError, FileExistsError too.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
        host.lock_alone(descriptor, waits=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # somebody tidied it away before we held the lock


def lock(path: Path) -> int:
    """Open a file that is there, hold it, and return its descriptor.

    Raises BlockingIOError where somebody else holds it, OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        host.lock_alone(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_unlocked(path: Path) -> bool:
    """Remove a file that nobody holds; False if somebody does, or it is not there.

    Raises OSError.
    """
    try:
        with _opened(path) as descriptor:
            host.lock_alone(descriptor)
            if not os.path.samestat(os.fstat(descriptor), path.lstat()):
                return False  # another file took the name
            path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def share(descriptor: int, *, waits: bool = False) -> None:
    """Let others see that this file is in use, as long as it is open; they may use it too.

    Where files cannot be locked nothing is seen. Somebody who only looks holds it
    for a moment: `waits` outlasts that.
    """
    with suppress(OSError):
        host.lock_shared(descriptor, waits=waits)


def is_shared(path: Path) -> bool:
    """Whether somebody who lives has this file in use."""
    try:
        with _opened(path) as descriptor:
            host.lock_alone(descriptor)
    except BlockingIOError:
        return True
    except OSError:  # not there, or it cannot be locked
        return False
    return False


def is_locked(path: Path) -> bool:
    """Whether somebody who lives holds this file."""
    try:
        with _opened(path) as descriptor:
            host.lock_shared(descriptor)
    except BlockingIOError:
        return True
    except OSError:  # not there, or no file of ours
        return False
    return False


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """To be locked, without waiting for what is no plain file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
