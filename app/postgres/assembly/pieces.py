"""The data files of a directory in pieces, each a chunk of an archive's block.

zstd and lz4 frames move as they are. pg_dump writes neither with a checksum, and
pg_restore takes a frame that is cut off without a word; so their structure is walked.
zstd: RFC 8878. lz4: lz4_Frame_format.md. gzip: RFC 1952; an archive wants zlib (RFC 1950).
"""

import ctypes
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CHUNK = 1024**2  # bytes; pg_restore holds one in memory

_PUNCH_HOLE = 3  # FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE

SUFFIXES = {"none": "", "gzip": ".gz", "lz4": ".lz4", "zstd": ".zst"}

_ZSTD, _LZ4, _GZIP = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\x1f\x8b\x08\0"
_ZSTD_RLE, _ZSTD_RESERVED = 1, 3  # types of a block
_ZSTD_LONGEST_BLOCK = 128 * 1024
_LZ4_VERSION, _LZ4_HEADER = 1, 7  # with neither size nor dictionary
_GZIP_HEADER = 10  # without a name
_GZIP_END = struct.Struct("<II")  # CRC and length
_ZLIB_HEADER = b"\x78\x9c"


@dataclass(frozen=True)
class Span:
    """A part of a file that moves as it is."""

    start: int
    length: int


def drop(file: int, span: Span) -> None:
    """Give a part's room on the disk back, where system and file system can do so."""
    if sys.platform == "linux" and span.length >= CHUNK:
        start, length = ctypes.c_long(span.start), ctypes.c_long(span.length)
        ctypes.CDLL(None).fallocate(file, _PUNCH_HOLE, start, length)


def pieces(file: int, compression: str) -> Iterator[bytes | Span]:
    """The pieces of an open file. Raises ValueError where it is damaged."""
    return _as_zlib(file) if compression == "gzip" else _spans(file, _ENDS[compression](file))


def _spans(file: int, ends: Iterator[int]) -> Iterator[Span]:
    """Parts of at least a chunk; the last one ends where the frame and the file do."""
    size = os.fstat(file).st_size
    if not size:  # pg_dump writes nothing at all for an empty large object
        return
    start = end = 0
    for end in ends:
        if end > size:
            raise ValueError("it is cut off")
        if end - start >= CHUNK:
            yield Span(start, end - start)
            start = end
    if end != size:
        raise ValueError("bytes follow its end")
    if end > start:
        yield Span(start, end - start)


def _plain_ends(file: int) -> Iterator[int]:
    size = os.fstat(file).st_size
    yield from range(CHUNK, size, CHUNK)
    yield size


def _zstd_ends(file: int) -> Iterator[int]:
    flags = _magic(file, _ZSTD)
    is_single, has_checksum = flags >> 5 & 1, flags >> 2 & 1
    at = len(_ZSTD) + 2 - is_single + (0, 1, 2, 4)[flags & 3] + (is_single, 2, 4, 8)[flags >> 6]
    is_last = 0
    while not is_last:
        block = int.from_bytes(_exactly(file, 3, at), "little")
        is_last, kind, size = block & 1, block >> 1 & 3, block >> 3
        if kind == _ZSTD_RESERVED or size > _ZSTD_LONGEST_BLOCK:
            raise ValueError("it has no zstd block where one should be")
        at += 3 + (1 if kind == _ZSTD_RLE else size)
        yield at
    yield at + 4 * has_checksum


def _lz4_ends(file: int) -> Iterator[int]:
    flags = _magic(file, _LZ4)
    if flags >> 6 != _LZ4_VERSION:
        raise ValueError("it is no lz4 frame of a known version")
    at = _LZ4_HEADER + 8 * (flags >> 3 & 1) + 4 * (flags & 1)
    while size := int.from_bytes(_exactly(file, 4, at), "little"):
        at += 4 + (size & 0x7FFF_FFFF) + 4 * (flags >> 4 & 1)
        yield at
    yield at + 4 + 4 * (flags >> 2 & 1)


_ENDS: dict[str, Callable[[int], Iterator[int]]] = {
    "none": _plain_ends,
    "zstd": _zstd_ends,
    "lz4": _lz4_ends,
}


def _as_zlib(file: int) -> Iterator[bytes]:
    """The same deflate stream in zlib's wrapping; all is unpacked for its other checksum."""
    _magic(file, _GZIP)
    stream = _Inflated()
    at = _GZIP_HEADER
    yield _ZLIB_HEADER
    while not stream.ended:
        piece = os.pread(file, CHUNK, at)
        if not piece:
            raise ValueError("it is cut off")
        at += len(piece)
        stream.take(piece)
        yield piece[: len(piece) - len(stream.rest)]
    if stream.rest + os.pread(file, _GZIP_END.size, at) != stream.end:
        raise ValueError("its checksum differs")
    yield stream.adler.to_bytes(4, "big")


class _Inflated:
    """What a deflate stream unpacks to: only its checksums and its length."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc, self._size = 0, 0
        self.adler = 1

    @property
    def ended(self) -> bool:
        return self._stream.eof

    @property
    def rest(self) -> bytes:
        """What came after the end of the stream."""
        return self._stream.unused_data

    @property
    def end(self) -> bytes:
        """The end of its gzip file."""
        return _GZIP_END.pack(self._crc, self._size & 0xFFFF_FFFF)

    def take(self, piece: bytes) -> None:
        """Unpack some more, at most a chunk at once. Raises ValueError."""
        try:
            while True:
                unpacked = self._stream.decompress(piece, CHUNK)
                self.adler = zlib.adler32(unpacked, self.adler)
                self._crc = zlib.crc32(unpacked, self._crc)
                self._size += len(unpacked)
                piece = self._stream.unconsumed_tail
                if self.ended or not (piece or len(unpacked) == CHUNK):
                    return
        except zlib.error as error:
            raise ValueError("it cannot be unpacked") from error


def _magic(file: int, expected: bytes) -> int:
    """The byte after the magic number that a file must begin with."""
    head = _exactly(file, len(expected) + 1, 0)
    if not head.startswith(expected):
        raise ValueError("it does not begin as such a file")
    return head[-1]


def _exactly(file: int, length: int, at: int) -> bytes:
    taken = os.pread(file, length, at)
    if len(taken) != length:
        raise ValueError("it is cut off")
    return taken
