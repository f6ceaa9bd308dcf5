"""Look after a throwaway server while it works: disk, memory, time, and whether it moves."""

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import humanize
import psutil

from app.errors import NotPossible
from app.postgres.throwaway.remains import processes_of
from app.postgres.throwaway.server import Throwaway

#: The share of a disk that a drill leaves free.
KEPT_FREE = 0.1

_EVERY = 1.0  # seconds between two looks
_COSTLY = 20  # times what it takes to look, until the next look
_MOST_PROCESSES = 200
_DEEPEST = 50  # levels of folders; a server makes five
_IDLE = 0.02  # share of a processor that a server takes that has nothing to do
_ELSEWHERE = "BACKSTOP_DRILL_URL names another server for drills."


@dataclass(frozen=True)
class Limits:
    """What a drill may take. Sizes in bytes, times in seconds."""

    disk: int
    memory: int  # of all its processes
    seconds: int
    stall: int  # for so long nothing may happen


class Watch:
    """Looks once a second; called far more often. Raises NotPossible beyond a limit."""

    def __init__(self, server: Throwaway, limits: Limits) -> None:
        self._server, self._limits = server, limits
        self._began = self._looked = self._moved = time.monotonic()
        self._every = _EVERY
        self._done = (0.0, 0)  # seconds of processors, and bytes, when it moved last

    def __call__(self) -> None:
        """Look, if it is time for it."""
        moment = time.monotonic()
        if moment < self._looked + self._every:
            return
        if self._server.process.status is not None:
            raise NotPossible(
                "the server for the drill has ended by itself", detail=self._server.last_words
            )
        used = self._look_at_disk()
        busy = self._look_at_processes()
        self._look_at_time(moment, busy, used)
        self._looked = time.monotonic()
        self._every = max(_EVERY, _COSTLY * (self._looked - moment))

    def _look_at_disk(self) -> int:
        site = self._server.site
        used = size_of(site.folder) + size_of(site.sockets)
        disk = shutil.disk_usage(site.folder)
        if used > self._limits.disk:
            raise NotPossible(
                f"the drill took more than {_told(self._limits.disk)} of disk and was ended",
                detail="So much is not expected of this dump: something in it fills the disk.",
                hint=f"Look at what its functions and views do when they are loaded. {_ELSEWHERE}",
            )
        if disk.free < KEPT_FREE * disk.total:
            raise NotPossible(
                f"the drill was ended: less than {KEPT_FREE:.0%} of the disk is free",
                detail=f"{_told(disk.free)} of {_told(disk.total)} are free where {site.folder}"
                " lies.",
                hint=f"Free some space. {_ELSEWHERE}",
            )
        return used

    def _look_at_processes(self) -> float:
        """The seconds of processors that they have taken."""
        memory, seconds, family = 0, 0.0, _family(self._server)
        for process in family:
            with suppress(psutil.Error), process.oneshot():
                about, times = process.memory_info(), process.cpu_times()
                memory += about.rss - getattr(about, "shared", 0)
                seconds += sum(times[:4])
        if memory > self._limits.memory or len(family) > _MOST_PROCESSES:
            raise NotPossible(
                f"the drill took {_told(memory)} of memory in {len(family)} processes and was"
                " ended",
                hint=_ELSEWHERE,
            )
        return seconds

    def _look_at_time(self, moment: float, busy: float, used: int) -> None:
        if moment > self._began + self._limits.seconds:
            raise NotPossible(
                f"the drill took longer than {self._limits.seconds} s and was ended",
                hint="Raise BACKSTOP_DRILL_TIMEOUT if the database is that large.",
            )
        idle = _IDLE * (moment - self._moved)
        if used != self._done[1] or not 0 <= busy - self._done[0] <= idle:
            self._moved, self._done = moment, (busy, used)
        elif moment > self._moved + self._limits.stall:
            raise NotPossible(
                f"the drill did not move for {self._limits.stall} s and was ended",
                detail="The server neither worked nor wrote: something in the dump sleeps.",
                hint="Raise BACKSTOP_STALL_TIMEOUT if that is to be.",
            )


def size_of(folder: Path) -> int:
    """What all files below a folder take on the disk, in bytes.

    Raises NotPossible where they lie so deep that their paths would get too long to look.
    """
    total, waiting = 0, [(os.fspath(folder), 0)]
    while waiting:
        path, depth = waiting.pop()
        if depth > _DEEPEST:
            raise NotPossible(
                "the drill made folders inside folders and was ended",
                detail="No server does so: something in the dump hides what it writes.",
                hint=_ELSEWHERE,
            )
        with suppress(OSError):
            for entry in os.scandir(path):
                with suppress(OSError):  # removed meanwhile
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
    return total


def _family(server: Throwaway) -> list[psutil.Process]:
    """All that runs for it: bubblewrap and everything below, or what works in its folder."""
    with suppress(psutil.Error):
        first = psutil.Process(server.process.pid)
        return [first, *first.children(recursive=True)]
    return processes_of(server.site.folder)


def _told(size: int) -> str:
    return humanize.naturalsize(size, binary=True)
