"""The local storage: dumps as files in one folder.

<folder>/backup_….dump           whole, checked, durable
<folder>/backup_….dump.json      its manifest
<folder>/.partial/backup_….dump  being written, locked by its writer
<folder>/.partial/backup_….dump.parts  the folder of a dump that several processes write
<folder>/.partial/upload_…       a foreign dump, as far as it is uploaded
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app import locks
from app.errors import ObjectMissing, StorageError
from app.storages.files import (
    as_storage_error,
    list_files,
    not_a_link,
    open_file,
    size_of,
    storage_errors,
    sync_folder,
    unlink_if_same,
)
from app.storages.uploads import Uploads

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,200}\.dump")
_PARTIAL = ".partial"
_PARTS = ".parts"
_PARTIAL_NAME = re.compile(NAME.pattern + r"(\.json\.[0-9a-f]+)?")
_TICK = 2 * 10**9  # nanoseconds; the coarsest clock of a file system
_LARGEST_MANIFEST = 256 * 1024**2  # bytes; a million tables need less


@dataclass(frozen=True)
class Staged:
    """A dump that is being written, and locked by its writer."""

    name: str
    path: Path
    descriptor: int


class LocalStorage:
    """Dumps in a folder of this machine, which is created when needed.

    Methods raise StorageError, ObjectMissing and StorageFull.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uploads = Uploads(folder / _PARTIAL)

    def stage(self, name: str) -> Staged:
        """Reserve a private place to write the dump `name`."""
        _check_name(name)
        with storage_errors(f"a new dump cannot be written in {self.folder}"):
            path = self._partials() / name
            return Staged(name, path, locks.create_locked(path))

    def stage_upload(self, upload_id: str, name: str) -> Staged:
        """Make a finished upload the staged dump `name`, without copying it."""
        _check_name(name)
        with storage_errors(f"the upload of {name} cannot be taken"):
            path, upload = self._partials() / name, self.uploads.path_of(upload_id)
            descriptor = locks.lock(upload)
            try:
                os.link(upload, path)
                upload.unlink()
            except BaseException:
                os.close(descriptor)
                raise
            return Staged(name, path, descriptor)

    @contextmanager
    def parts_of(self, staged: Staged) -> Iterator[Path]:
        """An empty private folder for the parts of a staged dump; removed at the end."""
        folder = staged.path.with_name(staged.name + _PARTS)
        with storage_errors(f"the parts of {staged.name} cannot be written"):
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def empty(self, staged: Staged) -> None:
        """Begin a staged dump anew."""
        with storage_errors(f"{staged.name} cannot be begun anew"):
            os.ftruncate(staged.descriptor, 0)

    def open_staged(self, staged: Staged) -> BinaryIO:
        """Open for reading what was written so far."""
        with storage_errors(f"{staged.name} cannot be read back"):
            file = staged.path.open("rb")
            if not os.path.sameopenfile(file.fileno(), staged.descriptor):
                file.close()
                raise StorageError(f"{staged.name} was replaced while it was written")
            return file

    def discard(self, staged: Staged) -> None:
        """End the reservation; remove what was staged, unless it was published."""
        try:
            with storage_errors(f"the partial of {staged.name} cannot be removed"):
                staged.path.unlink(missing_ok=True)
        finally:
            os.close(staged.descriptor)

    def publish(self, staged: Staged, manifest: bytes) -> None:
        """Make a whole dump durable and give it its final name; overwrite nothing."""
        final, its_manifest = self.folder / staged.name, self._manifest(staged.name)
        with storage_errors(f"the dump cannot be published in {self.folder}"), ExitStack() as stack:
            os.fsync(staged.descriptor)
            partial = stack.enter_context(self._written(manifest, staged.name))
            ours = [(final, os.fstat(staged.descriptor)), (its_manifest, partial.stat())]
            try:
                os.link(partial, its_manifest)  # link never overwrites; rename would
                self.open_staged(staged).close()
                os.link(staged.path, final)
                staged.path.unlink()
                sync_folder(self.folder)
            except BaseException:
                # It may not be durable, so none of our files keeps a final name;
                # those of others stay.
                for path, made in ours:
                    unlink_if_same(path, made)
                raise

    def open(self, name: str) -> BinaryIO:
        """Open a published dump for reading."""
        _check_name(name)
        file = open_file(self.folder, name)
        locks.share(file.fileno())
        return file

    def is_being_read(self, name: str) -> bool:
        """Whether somebody on this machine has a published dump open."""
        return bool(NAME.fullmatch(name)) and locks.is_shared(self.folder / name)

    def path_of(self, name: str) -> Path:
        """The path of a published dump, for a program to read."""
        self.open(name).close()
        return self.folder / name

    def manifest(self, name: str) -> bytes:
        """The manifest of a dump."""
        _check_name(name)
        with open_file(self.folder, _manifest_name(name)) as file:
            content = file.read(_LARGEST_MANIFEST)
        if len(content) == _LARGEST_MANIFEST:
            raise StorageError(f"the manifest of {name} is too large to be one")
        return content

    def make_durable(self) -> None:
        """Make the names of published dumps survive a power cut."""
        with storage_errors(f"the names in {self.folder} cannot be made durable"):
            sync_folder(self.folder)

    def replace_manifest(self, name: str, manifest: bytes) -> None:
        """Give a published dump a new manifest, in one step."""
        _check_name(name)
        with storage_errors(f"the manifest of {name} cannot be written"):
            with self._written(manifest, name) as partial:
                partial.rename(self._manifest(name))
            sync_folder(self.folder)

    def delete(self, name: str) -> None:
        """Remove a dump, then its manifest; either may be gone already."""
        _check_name(name)
        with storage_errors(f"{name} cannot be deleted from {self.folder}"):
            (self.folder / name).unlink(missing_ok=True)
            self._manifest(name).unlink(missing_ok=True)
            if self.folder.is_dir():
                sync_folder(self.folder)

    def sizes(self) -> dict[str, int]:
        """The size of each published dump in bytes, by name."""
        sizes = {}
        for entry in list_files(self.folder):
            if NAME.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        return sizes

    def names(self) -> set[str]:
        """The names of the published dumps; much faster than `sizes`."""
        return {entry.name for entry in list_files(self.folder) if NAME.fullmatch(entry.name)}

    def changed_at(self) -> int:
        """A number that changes whenever a name is added or removed."""
        try:
            changed = self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise as_storage_error(f"{self.folder} cannot be read", error) from error
        # A coarse clock cannot tell two recent changes apart.
        return changed if time.time_ns() - changed > _TICK else time.monotonic_ns()

    def free_space(self) -> int:
        """How many bytes can still be written."""
        with storage_errors(f"the free space of {self.folder} cannot be read"):
            existing = next(
                folder for folder in (self.folder, *self.folder.parents) if folder.exists()
            )
            disk = os.statvfs(existing)
        return disk.f_bavail * disk.f_frsize

    def has(self, name: str) -> bool:
        """Whether there is a published dump of this name."""
        return NAME.fullmatch(name) is not None and size_of(self.folder / name) is not None

    def staged_size(self, name: str) -> int:
        """How many bytes of a dump are written so far; 0 where none is being written."""
        return (NAME.fullmatch(name) and size_of(self.folder / _PARTIAL / name)) or 0

    def remove_lone_manifests(self, keep: Container[str] = ()) -> list[str]:
        """Remove manifests without a dump, but for those in `keep`; return their names.

        A dump may be published meanwhile: so look at its partial first, then at its file.
        """
        lone = [
            entry.name
            for entry in list_files(self.folder)
            if NAME.fullmatch(name := entry.name.removesuffix(".json"))
            and name != entry.name
            and name not in keep
            and not locks.is_locked(self.folder / _PARTIAL / name)
            and not self.has(name)
        ]
        with storage_errors(f"the manifests in {self.folder} cannot be tidied"):
            for name in lone:
                (self.folder / name).unlink(missing_ok=True)
        return lone

    def remove_lone_manifest(self, staged: Staged) -> None:
        """Remove the manifest that a lost dump has left, to publish the dump again."""
        with storage_errors(f"the manifest of {staged.name} cannot be removed"):
            if not self.has(staged.name):  # its stage is ours, so nobody publishes it now
                self._manifest(staged.name).unlink(missing_ok=True)

    def remove_abandoned_partials(self) -> list[str]:
        """Remove the partials that no process is writing; return their names."""
        with storage_errors(f"the partials in {self.folder} cannot be tidied"):
            if not (self.folder / _PARTIAL).is_dir():
                return []
            abandoned = [
                entry.name
                for entry in list_files(self._partials())
                if _PARTIAL_NAME.fullmatch(entry.name) and locks.remove_unlocked(Path(entry.path))
            ]
            self._remove_abandoned_parts()
            return abandoned

    def _remove_abandoned_parts(self) -> None:
        """Remove the folders whose dump nobody writes: it is locked before they are made."""
        for folder in self._partials().glob(f"*{_PARTS}"):
            partial = folder.with_name(folder.name.removesuffix(_PARTS))
            if not (folder.is_symlink() or locks.is_locked(partial)):
                shutil.rmtree(folder)

    def _manifest(self, name: str) -> Path:
        return self.folder / _manifest_name(name)

    def _partials(self) -> Path:
        """The folder of the partials, which is created when needed."""
        partials = not_a_link(self.folder / _PARTIAL)
        partials.mkdir(mode=0o700, parents=True, exist_ok=True)
        return partials

    @contextmanager
    def _written(self, manifest: bytes, name: str) -> Iterator[Path]:
        """A durable manifest under a temporary name, to be linked or renamed."""
        path = self._partials() / f"{_manifest_name(name)}.{secrets.token_hex(4)}"
        try:
            with os.fdopen(locks.create_locked(path), "wb") as file:
                file.write(manifest)
                file.flush()
                os.fsync(file.fileno())
                yield path
        finally:
            path.unlink(missing_ok=True)


def _manifest_name(name: str) -> str:
    return f"{name}.json"


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ObjectMissing("no dump has such a name")
