"""The local storage: dumps as files in one folder.

    <folder>/backup_….dump           whole, checked, durable
    <folder>/backup_….dump.json      its manifest
    <folder>/.partial/backup_….dump  being written, locked by its writer

Files are opened relative to the folder and without following links.
"""

import builtins
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.errors import ObjectMissing, StorageError, StorageFull

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,200}\.dump")
_PARTIAL = ".partial"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Staged:
    """A dump that is being written: its file, and the lock that says by whom."""

    name: str
    path: Path
    descriptor: int


@dataclass(frozen=True)
class Stored:
    """A published dump."""

    size: int  # bytes


class LocalStorage:
    """Dumps in a folder of this machine; the folder is made when needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage(self, name: str) -> Staged:
        _check_name(name)
        partials = self.folder / _PARTIAL
        with _told(f"a new dump cannot be written in {self.folder}"):
            partials.mkdir(mode=0o700, parents=True, exist_ok=True)
            if partials.is_symlink():
                raise StorageError(f"{partials} is a link; dumps are not written through it")
            while True:
                descriptor = os.open(
                    partials / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600
                )
                # The lock tells other processes that this partial has an owner;
                # one of them may have tidied it away before we held the lock.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.fstat(descriptor).st_nlink:
                    return Staged(name, partials / name, descriptor)
                os.close(descriptor)

    def discard(self, staged: Staged) -> None:
        """Remove what was staged, if it is still there, and let its lock go."""
        with suppress(FileNotFoundError):
            staged.path.unlink()
        os.close(staged.descriptor)

    def open_staged(self, staged: Staged) -> BinaryIO:
        """Open what was written so far for reading."""
        return staged.path.open("rb")

    def publish(self, staged: Staged, manifest: bytes) -> None:
        if self.has(staged.name):
            raise StorageError(f"{staged.name} is in {self.folder} already")
        with _told(f"the dump cannot be published in {self.folder}"):
            try:
                os.fsync(staged.descriptor)
                self._write_manifest(staged.name, manifest)
                # link never overwrites; rename would.
                os.link(staged.path, self.folder / staged.name)
                staged.path.unlink()
                _sync_folder(self.folder)
            except BaseException:
                # Not known to be durable: nothing may stay under a final name.
                self._unlink_both(staged.name)
                raise

    def replace_manifest(self, name: str, manifest: bytes) -> None:
        """Give a published dump a new manifest, in one step."""
        _check_name(name)
        with _told(f"the manifest of {name} cannot be written"):
            self._write_manifest(name, manifest)
            _sync_folder(self.folder)

    def open(self, name: str) -> BinaryIO:
        _check_name(name)
        return self._open(name)

    def manifest(self, name: str) -> bytes:
        _check_name(name)
        with self._open(_manifest_name(name)) as file:
            return file.read()

    def delete(self, name: str) -> None:
        _check_name(name)
        with _told(f"{name} cannot be deleted from {self.folder}"):
            self._unlink_both(name)
            if self.folder.is_dir():
                _sync_folder(self.folder)

    def list(self) -> dict[str, Stored]:
        found = {}
        for entry in self._entries(""):
            if NAME.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found[entry.name] = Stored(entry.stat(follow_symlinks=False).st_size)
        return found

    def has(self, name: str) -> bool:
        """Whether a published dump of this name is there."""
        try:
            return stat.S_ISREG((self.folder / name).lstat().st_mode)
        except OSError:
            return False

    def staged_size(self, name: str) -> int:
        """How many bytes of a dump are written so far; 0 if it is not being written."""
        try:
            return (self.folder / _PARTIAL / name).lstat().st_size
        except OSError:
            return 0

    def remove_lone_manifests(self) -> builtins.list[str]:
        """Remove manifests whose dump is not there and not being written; returns the names.

        The order of the two questions matters: a dump that is published
        between them is seen by the second.
        """
        lone = [
            entry.name
            for entry in self._entries("")
            if NAME.fullmatch(name := entry.name.removesuffix(".json"))
            and name != entry.name
            and not self._is_being_written(name)
            and not self.has(name)
        ]
        for name in lone:
            with suppress(FileNotFoundError):
                (self.folder / name).unlink()
        return lone

    def remove_abandoned_partials(self) -> builtins.list[str]:
        """Remove the partials that no living process is writing; returns their names."""
        abandoned = [
            entry.name
            for entry in self._entries(_PARTIAL)
            if not self._is_being_written(entry.name.removesuffix(".json"))
        ]
        for name in abandoned:
            with suppress(FileNotFoundError):
                (self.folder / _PARTIAL / name).unlink()
        return abandoned

    def _entries(self, below: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder / below) as entries:
                yield from (entry for entry in entries if entry.is_file(follow_symlinks=False))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _translated(f"{self.folder} cannot be read", error) from error

    def _is_being_written(self, name: str) -> bool:
        try:
            descriptor = os.open(self.folder / _PARTIAL / name, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _open(self, name: str) -> BinaryIO:
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(name, flags, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                raise ObjectMissing(f"{name} is not in {self.folder}") from error
            raise _translated(f"{name} cannot be opened", error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ObjectMissing(f"{name} is not a file")
        return os.fdopen(descriptor, "rb")

    def _unlink_both(self, name: str) -> None:
        for each in (name, _manifest_name(name)):
            with suppress(FileNotFoundError):
                (self.folder / each).unlink()

    def _write_manifest(self, name: str, content: bytes) -> None:
        partial = self.folder / _PARTIAL / _manifest_name(name)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        partial.rename(self.folder / _manifest_name(name))


def _manifest_name(name: str) -> str:
    return f"{name}.json"


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ObjectMissing("no dump has such a name")


def _sync_folder(folder: Path) -> None:
    """Make names durable: fsync of a file does not cover its folder's entry."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(message: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _translated(message, error) from error


def _translated(message: str, error: OSError) -> StorageError:
    detail = f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    if error.errno in _FULL:
        return StorageFull(
            message, detail=detail, hint="Free some space, or move BACKSTOP_BACKUP_DIR."
        )
    return StorageError(
        message, detail=detail, hint="Check the folder's owner and rights (BACKSTOP_BACKUP_DIR)."
    )
