"""Write the blocks of a custom-format archive.

The format: src/bin/pg_dump/pg_backup_custom.c (_StartData, _StartLO, _CustomWriteFunc).
"""

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import StorageError, StorageFull
from app.postgres.assembly.pieces import CHUNK, Span

_ROWS, _LARGE_OBJECTS = b"\1", b"\3"  # kinds of a block
_SMALL = 64 * 1024  # bytes; so little is copied faster together with its neighbours
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class CustomFile:
    """An archive that grows. Methods raise StorageError, StorageFull."""

    def __init__(self, target: int, contents: bytearray) -> None:
        """Begin an empty file with its table of contents, which keeps its length."""
        self._target = target
        self._unwritten = bytearray()
        self.size = len(contents)
        self._put(contents, 0)

    @contextmanager
    def block(self, entry: int, *, large_objects: bool) -> Iterator[None]:
        """The block of one entry: chunks, or large objects."""
        self._write((_LARGE_OBJECTS if large_objects else _ROWS) + _number(entry))
        yield
        self._write(_number(0))

    @contextmanager
    def large_object(self, oid: int) -> Iterator[None]:
        """One large object of a block: chunks."""
        self._write(_number(oid))
        yield
        self._write(_number(0))

    def chunk(self, source: int, piece: bytes | Span) -> None:
        """One chunk; an empty one is left out, as it would be the end of them all."""
        if isinstance(piece, Span):
            self._write(_number(piece.length))
            self._copy(source, piece)
        elif piece:
            self._write(_number(len(piece)) + piece)

    def finish(self, contents: bytearray) -> None:
        """Write what is left, and the contents that name each block."""
        self._flush()
        self._put(contents, 0)

    def _write(self, data: bytes) -> None:
        self._unwritten += data
        self.size += len(data)
        if len(self._unwritten) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._put(self._unwritten, self.size - len(self._unwritten))
        self._unwritten.clear()

    def _put(self, data: bytearray, at: int) -> None:
        with _errors_of_target():
            _write_all(self._target, data, at)

    def _copy(self, source: int, span: Span) -> None:
        if span.length <= _SMALL:
            return self._write(_read(source, span.length, span.start))
        self._flush()
        start, length = span.start, span.length
        while length:
            with _errors_of_target():
                copied = _copy_some(source, start, self._target, self.size, length)
            if not copied:
                raise ValueError("it was cut while it was read")
            self.size, start, length = self.size + copied, start + copied, length - copied
        return None


def _number(value: int) -> bytes:
    """A number as pg_dump writes it: sign and amount. An oid is an unsigned one."""
    (signed,) = struct.unpack("<i", struct.pack("<I", value))
    return struct.pack("<BI", signed < 0, abs(signed))


def _copy_some(source: int, start: int, target: int, at: int, length: int) -> int:
    """Copy inside the kernel where it can; the bytes copied, 0 where the source ends."""
    try:
        return os.copy_file_range(source, target, length, start, at)
    except (OSError, AttributeError) as error:  # Linux alone has it, for some file systems
        if isinstance(error, OSError) and error.errno not in _CANNOT_COPY:
            raise
    data = os.pread(source, min(length, CHUNK), start)
    _write_all(target, data, at)
    return len(data)


def _read(source: int, length: int, start: int) -> bytes:
    data = os.pread(source, length, start)
    if len(data) != length:
        raise ValueError("it was cut while it was read")
    return data


def _write_all(target: int, data: bytes | bytearray, at: int) -> None:
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.pwrite(target, view[written:], at + written)


@contextmanager
def _errors_of_target() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        raise (StorageFull if full else StorageError)(
            "no space is left where the dump is written" if full else "the dump cannot be written",
            detail=f"{error.strerror}.",
            hint="Free some space, or move BACKSTOP_BACKUP_DIR to a larger disk." if full else "",
        ) from error
