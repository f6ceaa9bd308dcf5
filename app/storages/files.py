"""Files of a storage: opened, listed and made durable, with the errors of a storage."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from app.errors import ObjectMissing, StorageError, StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def storage_errors(message: str) -> Iterator[None]:
    """Turn an OSError into a StorageError with this message."""
    try:
        yield
    except OSError as error:
        raise as_storage_error(message, error) from error


def as_storage_error(message: str, error: OSError) -> StorageError:
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
    """The same folder, which need not exist. Raises StorageError if it is a symbolic link."""
    if folder.is_symlink():
        raise StorageError(
            f"{folder} is a link", hint="Dumps are not written through links; remove it."
        )
    return folder


def open_file(folder: Path, name: str) -> BinaryIO:
    """A regular file of the folder, for reading. Raises ObjectMissing, StorageError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            opened = os.open(name, flags, dir_fd=descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            raise ObjectMissing(f"{name} is not in {folder}") from error
        raise as_storage_error(f"{name} cannot be opened", error) from error
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise ObjectMissing(f"{name} is not a file")
    return os.fdopen(opened, "rb")


def list_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The regular files of a folder; none where it does not exist. Raises StorageError."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return
    except OSError as error:
        raise as_storage_error(f"{folder} cannot be read", error) from error


def size_of(path: Path) -> int | None:
    """The size of a regular file in bytes; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def unlink_if_same(path: Path, expected: os.stat_result) -> None:
    """Remove the file, unless another one has its name by now."""
    with suppress(FileNotFoundError):
        if os.path.samestat(path.lstat(), expected):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: fsync of a file does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
