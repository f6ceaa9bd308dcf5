"""A store that is a folder: another disk, or what a NAS exports.

<folder>/…            whole objects, durable
<folder>/.partial/…   being written

The folder must exist: one that we made could lie on the disk below an absent mount. A file
system that hangs, as a hard NFS mount can, hangs us too.
"""

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from app.errors import ObjectExists, StorageError
from app.stores.address import StoreAddress
from app.stores.blame import file_error, missing
from app.stores.chunks import Chunks
from app.stores.store import CHUNK, Protections, StoredObject, checked, folder_of

_PARTIAL = ".partial"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


class FileStore:
    """Objects as files of a folder. No link below it is followed."""

    def __init__(self, address: StoreAddress) -> None:
        self.address = address

    def put(self, key: str, chunks: Iterable[bytes], *, expected_size: int = 0) -> int:
        """A partial, renamed once it is durable. The size expected does not matter."""
        del expected_size
        *folders, name = checked(key).split("/")
        source = Chunks(chunks)

        def rename(partial: str, at: int, to: int) -> None:
            os.replace(partial, name, src_dir_fd=at, dst_dir_fd=to)

        with self._errors(f"{key} cannot be written", source):
            return self._write(source, folders, rename)

    def put_new(self, key: str, content: bytes) -> None:
        """A partial, linked: a link never replaces."""
        *folders, name = checked(key).split("/")

        def link(partial: str, at: int, to: int) -> None:
            try:
                os.link(partial, name, src_dir_fd=at, dst_dir_fd=to, follow_symlinks=False)
            except FileExistsError:
                raise ObjectExists(f"{key} is in the store already") from None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                raise StorageError(
                    f"{key} cannot be written: the file system knows no hard links",
                    detail=f"{error.strerror}.",
                    hint="Choose another one: without them, a copy cannot be made for sure.",
                ) from error

        with self._errors(f"{key} cannot be written"):
            self._write(Chunks([content]), folders, link)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a file."""
        *folders, name = checked(key).split("/")
        with self._errors(f"{key} cannot be read"):
            try:
                with self._folder(folders) as folder:
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    descriptor = os.open(name, flags, dir_fd=folder)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                    raise missing(key) from error
                raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise missing(key)
        return self._blocks(key, descriptor, start, length)

    def _blocks(self, key: str, descriptor: int, start: int, length: int | None) -> Iterator[bytes]:
        with self._errors(f"{key} cannot be read"), os.fdopen(descriptor, "rb") as file:
            file.seek(start)
            rest = length
            while block := file.read(CHUNK if rest is None else min(CHUNK, rest)):
                rest = None if rest is None else rest - len(block)
                yield block

    def size(self, key: str) -> int | None:
        """The size of a regular file."""
        *folders, name = checked(key).split("/")
        with self._errors(f"{key} cannot be found"):
            try:
                with self._folder(folders) as folder:
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                    return None
                raise
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The regular files, folder by folder."""
        start = folder_of(prefix)
        waiting = [] if start is None else [start]
        with self._errors("the store cannot be listed"):
            while waiting:
                above = waiting.pop()
                for key, entry in self._entries(above):
                    if entry.is_dir(follow_symlinks=False) and key != _PARTIAL:
                        waiting.append(f"{key}/")
                    elif entry.is_file(follow_symlinks=False) and key.startswith(prefix):
                        yield from _found(key, entry)

    def _entries(self, above: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
        """What is in a folder, if it is one, with the keys; `above` ends with a slash."""
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            self._folder(above.split("/")[:-1]) as folder,
            os.scandir(folder) as entries,
        ):
            for entry in entries:
                yield f"{above}{entry.name}", entry

    def delete(self, key: str) -> None:
        """Remove the file; its folder stays."""
        *folders, name = checked(key).split("/")
        with (
            self._errors(f"{key} cannot be removed"),
            suppress(FileNotFoundError),
            self._folder(folders) as folder,
        ):
            os.unlink(name, dir_fd=folder)
            _sync(folder)

    def remove_unfinished(self, older_than: timedelta) -> int:
        """Remove the partials that did not grow for so long."""
        latest = time.time() - older_than.total_seconds()
        removed = 0
        with self._errors("partials cannot be removed"):
            for _, entry in self._entries(f"{_PARTIAL}/"):
                with suppress(FileNotFoundError), self._folder([_PARTIAL]) as folder:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_mtime <= latest:
                        os.unlink(entry.name, dir_fd=folder)
                        removed += 1
        return removed

    def protections(self) -> Protections:
        """A folder does not tell of snapshots."""
        return Protections()

    def _write(
        self,
        source: Chunks,
        folders: Sequence[str],
        publish: Callable[[str, int, int], None],
    ) -> int:
        """Write a durable partial; `publish` gives it its name from one folder to another."""
        partial = secrets.token_hex(12)
        with self._folder([_PARTIAL], create=True) as at:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(partial, flags, 0o600, dir_fd=at)
            try:
                with os.fdopen(descriptor, "wb", buffering=0) as file:
                    for chunk in source:
                        _write_all(file.fileno(), chunk)
                    os.fsync(file.fileno())
                with self._folder(folders, create=True) as to:
                    publish(partial, at, to)
                    _sync(to)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(partial, dir_fd=at)
        return source.size

    @contextmanager
    def _folder(self, names: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """The descriptor of a folder below ours, reached without a link."""
        try:
            descriptor = os.open(self.address.prefix, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StorageError(
                "the store's folder is not there",
                detail=f"{self.address.prefix}: {error.strerror}.",
                hint="Is it mounted? Backstop does not create it.",
            ) from error
        try:
            for name in names:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=descriptor)
                        _sync(descriptor)
                below = os.open(name, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _errors(self, doing: str, source: Chunks | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if source is not None and error is source.failure:
                raise
            raise file_error(doing, error) from error


def _write_all(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _found(key: str, entry: "os.DirEntry[str]") -> Iterator[StoredObject]:
    with suppress(FileNotFoundError):  # removed meanwhile
        status = entry.stat(follow_symlinks=False)
        yield StoredObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _sync(folder: int) -> None:
    """Make the names in a folder durable, where its file system can."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
