"""The contents of a directory that pg_dump wrote, as those of one archive.

Both forms differ in the kind that the header names, and in what ends each entry: the name
of its data file there, the offset of its block here.
"""

import io
import struct
from dataclasses import dataclass

from app.postgres.assembly.pieces import SUFFIXES
from app.postgres.contents import CUSTOM, DIRECTORY, RawEntry, Reader

_KIND_AT = 10  # in the header
_WIDTHS = (4, 8)  # of numbers and offsets, in bytes
_OFFSET = struct.Struct("<BQ")
_SET, _NOT_SET, _NO_DATA = 2, 1, 3  # K_OFFSET_*


@dataclass(frozen=True)
class Item:
    """An entry with data."""

    id: int
    file: str  # without the suffix of its compression
    large_objects: bool
    copied: bool  # by COPY, not as INSERTs
    movable: bool  # may come sooner or later than other rows
    start: int  # of its bytes in the contents
    end: int


class Contents:
    """The table of contents of the archive, as long as it will be at the end."""

    def __init__(self, toc: bytes) -> None:
        """Raises ValueError for one that is damaged, or of an unknown form."""
        header = Reader(io.BytesIO(toc), DIRECTORY)
        self.compression = header.header().compression
        if self.compression not in SUFFIXES:
            raise ValueError("its compression is unknown")
        if (header.width, header.offset_width) != _WIDTHS:
            raise ValueError("its numbers have an unknown width")
        self.items: dict[int, Item] = {}  # by id, in pg_dump's order
        self.unset = bytearray(toc[: header.at])  # the contents without any offset
        self.unset[_KIND_AT] = CUSTOM
        self._take_entries(toc)

    def _take_entries(self, toc: bytes) -> None:
        reader, known = Reader(io.BytesIO(toc), DIRECTORY), set()
        for entry in reader.entries():
            if entry.id in known:
                raise ValueError(f"entry {entry.id} comes twice")
            known.add(entry.id)
            start = len(self.unset)
            self.unset += toc[entry.start : entry.end]
            self.unset += _OFFSET.pack(_NOT_SET if entry.data else _NO_DATA, 0)
            if entry.data:
                self.items[entry.id] = _item(entry, known, start, len(self.unset))
        if reader.at != len(toc):
            raise ValueError("bytes follow the table of contents")

    def arranged(self, offsets: dict[int, int]) -> bytearray:
        """The contents with the offset of each block, in the order of the blocks.

        pg_restore reads a pipe only forwards, so both must have the same order.
        """
        arranged, at = bytearray(), 0
        for place, (entry, offset) in zip(self.items.values(), offsets.items(), strict=True):
            item = self.items[entry]
            arranged += self.unset[at : place.start]
            arranged += self.unset[item.start : item.end - _OFFSET.size]
            arranged += _OFFSET.pack(_SET, offset)
            at = place.end
        return arranged + self.unset[at:]


def _item(entry: RawEntry, known: set[int], start: int, end: int) -> Item:
    kind, file = entry.texts[0], entry.data.decode("ascii")
    large_objects = kind == b"BLOBS"
    names = ("blobs.toc", f"blobs_{entry.id}.toc") if large_objects else (f"{entry.id}.dat",)
    if file not in names:
        raise ValueError(f"the data file of entry {entry.id} has a strange name")
    # A table that no entry before it defines, as that of an extension, may have foreign
    # keys already: such rows stay in pg_dump's order.
    movable = kind == b"TABLE DATA" and bool(entry.needs) and known.issuperset(entry.needs)
    return Item(entry.id, file, large_objects, bool(entry.copy), movable, start, end)
