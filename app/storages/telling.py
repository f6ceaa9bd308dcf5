"""What the file system refuses, told in words."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import StorageError, StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def telling(message: str) -> Iterator[None]:
    """Turn what the system refuses meanwhile into a StorageError of these words."""
    try:
        yield
    except OSError as error:
        raise translated(message, error) from error


def translated(message: str, error: OSError) -> StorageError:
    """The StorageError of an OSError, with a hint."""
    detail = f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    if error.errno == errno.EEXIST:
        return StorageError(f"{message}: the name is taken already", detail=detail)
    if error.errno in _FULL:
        return StorageFull(
            message, detail=detail, hint="Free some space, or move BACKSTOP_BACKUP_DIR."
        )
    return StorageError(
        message, detail=detail, hint="Check the folder's owner and rights (BACKSTOP_BACKUP_DIR)."
    )


def not_a_link(folder: Path) -> Path:
    """The same folder, there or not. Raises StorageError if it is a link to elsewhere."""
    if folder.is_symlink():
        raise StorageError(
            f"{folder} is a link", hint="Dumps are not written through links; remove it."
        )
    return folder
