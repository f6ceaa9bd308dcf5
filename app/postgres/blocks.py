"""Check the blocks of an archive's data: every byte must belong to one.

pg_restore reads only the blocks that the table of contents names.
The format: src/bin/pg_dump/pg_backup_custom.c (_skipData, _skipLOs).
"""

import os
from collections.abc import Callable
from typing import BinaryIO

from app.errors import DumpError
from app.postgres.archive import number_width, read_entries

_ROWS, _LARGE_OBJECTS = 1, 3  # kinds of a block
_TICK = 4096  # chunks


def check_blocks(archive: BinaryIO, on_tick: Callable[[], None]) -> None:
    """Raise DumpError for bytes outside the blocks, or missing ones; and what `on_tick` raises."""
    known = {entry.id for entry in read_entries(archive)}
    walk = _Walk(archive, number_width(archive), on_tick)
    while kind := archive.read(1):
        if walk.number() not in known:
            raise _broken()
        if kind[0] == _ROWS:
            walk.skip_chunks()
        elif kind[0] == _LARGE_OBJECTS:
            while walk.number():
                walk.skip_chunks()
        else:
            raise _broken()


def _broken() -> DumpError:
    return DumpError(
        "the dump is damaged",
        detail="Some bytes belong to no entry of its table of contents.",
        hint="Was it copied as text (FTP, docker exec -t)? Copy it again, in binary mode.",
    )


class _Walk:
    def __init__(self, archive: BinaryIO, width: int, on_tick: Callable[[], None]) -> None:
        self._archive, self._width, self._on_tick = archive, width, on_tick
        at = archive.tell()
        self._size = archive.seek(0, os.SEEK_END)
        archive.seek(at)
        self._steps = 0

    def number(self) -> int:
        raw = self._archive.read(1 + self._width)
        if len(raw) <= self._width or raw[0] > 1:
            raise _broken()
        return (-1 if raw[0] else 1) * int.from_bytes(raw[1:], "little")

    def skip_chunks(self) -> None:
        while length := self.number():
            if length < 0 or self._archive.seek(length, os.SEEK_CUR) > self._size:
                raise _broken()
            self._steps += 1
            if self._steps % _TICK == 0:
                self._on_tick()
