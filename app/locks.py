"""Files whose locks show that their owner is alive.

A lock always ends with its holder; a pid in a name could be reused.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app import host


def create_locked(path: Path) -> int:
    """Create a private, locked file and return its descriptor.

    The lock lasts until that is closed. Raises OSError, also FileExistsError.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
        host.lock_alone(descriptor, waits=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # somebody removed it before we had the lock


def lock(path: Path) -> int:
    """Open and lock an existing file, and return its descriptor.

    Raises BlockingIOError if somebody else has it locked, OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        host.lock_alone(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_unlocked(path: Path) -> bool:
    """Remove a file that nobody has locked; False otherwise. Raises OSError."""
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
    """Show others that this file is in use while it is open; they may use it too.

    Nothing is shown where files cannot be locked. A process that checks a file locks it
    for a moment; `waits` waits for that.
    """
    with suppress(OSError):
        host.lock_shared(descriptor, waits=waits)


def is_shared(path: Path) -> bool:
    """Whether a live process uses this file."""
    try:
        with _opened(path) as descriptor:
            host.lock_alone(descriptor)
    except BlockingIOError:
        return True
    except OSError:  # missing, or it cannot be locked
        return False
    return False


def is_locked(path: Path) -> bool:
    """Whether a live process has this file locked."""
    try:
        with _opened(path) as descriptor:
            host.lock_shared(descriptor)
    except BlockingIOError:
        return True
    except OSError:  # missing, or not our file
        return False
    return False


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file to lock it; do not wait if it is not a plain file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
