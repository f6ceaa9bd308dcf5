"""The local storage: dumps as files in one folder.

    <folder>/backup_….dump           whole, checked, durable
    <folder>/backup_….dump.json      its manifest
    <folder>/.partial/backup_….dump  being written, locked by its writer
    <folder>/.partial/upload_…       what was uploaded of a foreign dump

Files are opened relative to the folder and without following links.
"""

import builtins
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app import locks
from app.errors import ObjectMissing, StorageError
from app.storages.telling import not_a_link, telling, translated
from app.storages.uploads import Uploads

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,200}\.dump")
_PARTIAL = ".partial"
_PARTIAL_NAME = re.compile(NAME.pattern + r"(\.json\.[0-9a-f]+)?")
_TICK = 2 * 10**9  # nanoseconds; the coarsest file systems count in two seconds
_LARGEST_MANIFEST = 256 * 1024**2  # bytes; that of a million tables is smaller


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
        self.uploads = Uploads(folder / _PARTIAL)

    def stage(self, name: str) -> Staged:
        _check_name(name)
        with telling(f"a new dump cannot be written in {self.folder}"):
            path = self._partials() / name
            return Staged(name, path, locks.create_locked(path))

    def stage_upload(self, upload_id: str, name: str) -> Staged:
        """Take a finished upload as the dump `name` that is being written, without a copy."""
        _check_name(name)
        with telling(f"the upload of {name} cannot be taken"):
            path, upload = self._partials() / name, self.uploads.path_of(upload_id)
            descriptor = locks.lock(upload)
            try:
                os.link(upload, path)
                upload.unlink()
            except BaseException:
                os.close(descriptor)
                raise
            return Staged(name, path, descriptor)

    def open_staged(self, staged: Staged) -> BinaryIO:
        with telling(f"{staged.name} cannot be read back"):
            file = staged.path.open("rb")
            if not os.path.sameopenfile(file.fileno(), staged.descriptor):
                file.close()
                raise StorageError(f"{staged.name} was replaced while it was written")
            return file

    def discard(self, staged: Staged) -> None:
        try:
            with telling(f"the partial of {staged.name} cannot be removed"):
                staged.path.unlink(missing_ok=True)
        finally:
            os.close(staged.descriptor)

    def publish(self, staged: Staged, manifest: bytes) -> None:
        final, its_manifest = self.folder / staged.name, self._manifest(staged.name)
        with telling(f"the dump cannot be published in {self.folder}"), ExitStack() as stack:
            os.fsync(staged.descriptor)
            partial = stack.enter_context(self._written(manifest, staged.name))
            ours = [(final, os.fstat(staged.descriptor)), (its_manifest, partial.stat())]
            try:
                os.link(partial, its_manifest)  # link never overwrites; rename would
                self.open_staged(staged).close()
                os.link(staged.path, final)
                staged.path.unlink()
                _sync_folder(self.folder)
            except BaseException:
                # Not known to be durable: nothing of ours may stay under a final
                # name, however far we came; what others made stays.
                for path, made in ours:
                    _unlink_if_same(path, made)
                raise

    def open(self, name: str) -> BinaryIO:
        _check_name(name)
        file = self._open(name)
        locks.share(file.fileno())
        return file

    def is_being_read(self, name: str) -> bool:
        """Whether somebody on this machine has a published dump open."""
        return bool(NAME.fullmatch(name)) and locks.is_shared(self.folder / name)

    def path_of(self, name: str) -> Path:
        """Where a published dump lies, for a program to read. Raises as `open`."""
        self.open(name).close()
        return self.folder / name

    def manifest(self, name: str) -> bytes:
        _check_name(name)
        with self._open(_manifest_name(name)) as file:
            content = file.read(_LARGEST_MANIFEST)
        if len(content) == _LARGEST_MANIFEST:
            raise StorageError(f"the manifest of {name} is too large to be one")
        return content

    def make_durable(self) -> None:
        with telling(f"the names in {self.folder} cannot be made durable"):
            _sync_folder(self.folder)

    def replace_manifest(self, name: str, manifest: bytes) -> None:
        _check_name(name)
        with telling(f"the manifest of {name} cannot be written"):
            with self._written(manifest, name) as partial:
                partial.rename(self._manifest(name))
            _sync_folder(self.folder)

    def delete(self, name: str) -> None:
        _check_name(name)
        with telling(f"{name} cannot be deleted from {self.folder}"):
            (self.folder / name).unlink(missing_ok=True)
            self._manifest(name).unlink(missing_ok=True)
            if self.folder.is_dir():
                _sync_folder(self.folder)

    def list(self) -> dict[str, Stored]:
        found = {}
        for entry in self._entries(self.folder):
            if NAME.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found[entry.name] = Stored(entry.stat(follow_symlinks=False).st_size)
        return found

    def names(self) -> set[str]:
        """The names alone, of many more dumps in the same time."""
        return {entry.name for entry in self._entries(self.folder) if NAME.fullmatch(entry.name)}

    def changed_at(self) -> int:
        """When a name last came or went, as a number; another one after each such change."""
        try:
            found = self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise translated(f"{self.folder} cannot be read", error) from error
        # A clock that ticks too seldom to tell two changes of the same moment apart.
        return found if time.time_ns() - found > _TICK else time.monotonic_ns()

    def free_space(self) -> int:
        """Bytes that can still be written."""
        with telling(f"the free space of {self.folder} cannot be told"):
            existing = next(each for each in (self.folder, *self.folder.parents) if each.exists())
            found = os.statvfs(existing)
        return found.f_bavail * found.f_frsize

    def has(self, name: str) -> bool:
        """Whether a published dump of this name is there."""
        return _size_of(self.folder, name) is not None

    def staged_size(self, name: str) -> int:
        """How many bytes of a dump are written so far; 0 if it is not being written."""
        return _size_of(self.folder / _PARTIAL, name) or 0

    def remove_lone_manifests(self, keep: Container[str] = ()) -> builtins.list[str]:
        """Remove manifests whose dump is not there and not being written; returns the names.

        Those of the dumps in `keep` stay. The order of the two questions matters:
        a dump that is published between them is seen by the second.
        """
        lone = [
            entry.name
            for entry in self._entries(self.folder)
            if NAME.fullmatch(name := entry.name.removesuffix(".json"))
            and name != entry.name
            and name not in keep
            and not locks.is_locked(self.folder / _PARTIAL / name)
            and not self.has(name)
        ]
        with telling(f"the manifests in {self.folder} cannot be tidied"):
            for name in lone:
                (self.folder / name).unlink(missing_ok=True)
        return lone

    def remove_abandoned_partials(self) -> builtins.list[str]:
        """Remove the partials that no living process is writing; returns their names."""
        with telling(f"the partials in {self.folder} cannot be tidied"):
            if not (self.folder / _PARTIAL).is_dir():
                return []
            return [
                entry.name
                for entry in self._entries(self._partials())
                if _PARTIAL_NAME.fullmatch(entry.name) and locks.remove_unlocked(Path(entry.path))
            ]

    def _manifest(self, name: str) -> Path:
        return self.folder / _manifest_name(name)

    def _partials(self) -> Path:
        """The folder of the partials, made when needed."""
        partials = not_a_link(self.folder / _PARTIAL)
        partials.mkdir(mode=0o700, parents=True, exist_ok=True)
        return partials

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                yield from (entry for entry in entries if entry.is_file(follow_symlinks=False))
        except FileNotFoundError:
            return
        except OSError as error:
            raise translated(f"{folder} cannot be read", error) from error

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
            raise translated(f"{name} cannot be opened", error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ObjectMissing(f"{name} is not a file")
        return os.fdopen(descriptor, "rb")

    @contextmanager
    def _written(self, manifest: bytes, name: str) -> Iterator[Path]:
        """A manifest under a temporary name, durable, until it is linked or renamed."""
        path = self._partials() / f"{_manifest_name(name)}.{secrets.token_hex(4)}"
        try:
            with os.fdopen(locks.create_locked(path), "wb") as file:
                file.write(manifest)
                file.flush()
                os.fsync(file.fileno())
                yield path
        finally:
            path.unlink(missing_ok=True)


def _size_of(folder: Path, name: str) -> int | None:
    """The size of a regular file; None if there is none of this name."""
    if not NAME.fullmatch(name):
        return None
    try:
        found = (folder / name).lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _unlink_if_same(path: Path, made: os.stat_result) -> None:
    with suppress(FileNotFoundError):
        if os.path.samestat(path.lstat(), made):
            path.unlink()


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
