"""Move what a parallel pg_dump wrote into one archive, while it runs or afterwards.

Data files are removed as they move, so that the rows lie on the disk once.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.errors import DumpError, StorageError
from app.postgres.assembly.custom import CustomFile
from app.postgres.assembly.directory import Contents, Item
from app.postgres.assembly.pieces import SUFFIXES, Span, drop, pieces

_TOC = "toc.dat"
_FINISHED = re.compile(r"pg_dump: finished item (\d+) TABLE DATA ")  # LC_ALL=C, -v, -j 2 or more
_LARGE_OBJECT = re.compile(rb"([1-9]\d*) (blob_\1\.dat)\n")
_LAST_OID = 2**32 - 1
_LONGEST_LINE = 64  # bytes
_COPY_END = b"\\.\n\n\n"


class DamagedDirectory(DumpError):
    """The directory is not what pg_dump should have written."""


class Assembly:
    """An archive in the making. Use it as soon as pg_dump has begun to dump rows.

    Methods raise DamagedDirectory, StorageError, StorageFull,
    and what `on_tick` raises; the target is no archive then.
    """

    def __init__(self, directory: Path, target: BinaryIO, on_tick: Callable[[], None]) -> None:
        """Begin the archive in `target`, an empty file."""
        self._directory, self._on_tick = directory, on_tick
        with _open(directory / _TOC) as toc:
            self._contents = Contents(os.pread(toc, os.fstat(toc).st_size, 0))
            self._suffix = SUFFIXES[self._contents.compression]
        self._left = dict(self._contents.items)
        self._offsets: dict[int, int] = {}  # by entry, in the order of the blocks
        self._archive = CustomFile(target.fileno(), self._contents.unset)

    def take(self, entry: int) -> None:
        """Move a table's rows, which pg_dump has finished; some wait for `finish`."""
        item = self._left.get(entry)
        if item is not None and item.movable:
            self._append(item)

    def finish(self) -> None:
        """Move what is left, in pg_dump's order, after pg_dump has ended well; no fsync."""
        for item in list(self._left.values()):
            self._append(item)
        with os.scandir(self._directory) as files:
            strangers = sorted(file.name for file in files if file.name != _TOC)
        if strangers:
            raise _damaged(strangers[0], "it belongs to no entry of the table of contents")
        self._archive.finish(self._contents.arranged(self._offsets))

    def _append(self, item: Item) -> None:
        self._offsets[item.id] = self._archive.size
        with self._archive.block(item.id, large_objects=item.large_objects):
            if item.large_objects:
                self._move_large_objects(self._directory / item.file)
            else:
                self._move(item.file, item)
        del self._left[item.id]

    def _move_large_objects(self, path: Path) -> None:
        with _open(path) as listed, os.fdopen(os.dup(listed), "rb") as lines:
            while line := lines.readline(_LONGEST_LINE):
                match = _LARGE_OBJECT.fullmatch(line)
                if match is None or int(match[1]) > _LAST_OID:
                    raise ValueError("a line of it names no large object")
                with self._archive.large_object(int(match[1])):
                    self._move(match[2].decode())
        path.unlink()

    def _move(self, name: str, rows: Item | None = None) -> None:
        path = self._directory / f"{name}{self._suffix}"
        with _open(path) as file:
            end = _COPY_END if rows and rows.copied and not self._suffix else b""
            if rows and not _is_whole(file, end):
                raise ValueError("it is cut off")
            for piece in pieces(file, self._contents.compression):
                self._archive.chunk(file, piece)
                if isinstance(piece, Span):
                    drop(file, piece)
                self._on_tick()
        path.unlink()


def assemble(directory: Path, target: BinaryIO, on_tick: Callable[[], None]) -> None:
    """Turn a whole directory of pg_dump into one archive in `target`, an empty file.

    Raises DamagedDirectory, StorageError, StorageFull, and what `on_tick` raises.
    """
    Assembly(directory, target, on_tick).finish()


def finished_entry(line: str) -> int | None:
    """The entry whose rows are complete, as far as a line of pg_dump's log tells one."""
    match = _FINISHED.match(line)
    return int(match[1]) if match else None


@contextmanager
def _open(path: Path) -> Iterator[int]:
    """A file of the directory; what is wrong with it becomes an error with its name."""
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield file
        finally:
            os.close(file)
    except (ValueError, KeyError, OverflowError) as error:
        raise _damaged(path.name, str(error)) from error
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            raise _damaged(path.name, "it is missing") from error
        raise StorageError("the dump could not be read", detail=f"{error.strerror}.") from error


def _damaged(name: str, reason: str) -> DamagedDirectory:
    return DamagedDirectory("the directory of the dump is damaged", detail=f"{name}: {reason}.")


def _is_whole(file: int, end: bytes) -> bool:
    """Whether a file of rows, which is never empty, has its end, as far as one is known."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, len(end), max(size - len(end), 0)) == end
