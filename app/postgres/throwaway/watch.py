"""Watch a throwaway server while it works: its disk, memory, time and progress."""

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

_INTERVAL = 1.0  # seconds between two checks
_COSTLY = 20  # times the duration of a check until the next one
_MOST_PROCESSES = 200
_DEEPEST = 50  # levels of folders; a server creates five
_IDLE = 0.02  # share of a processor that an idle server takes
_ELSEWHERE = "BACKSTOP_DRILL_URL names another server for drills."


@dataclass(frozen=True)
class Limits:
    """The limits of a drill. Sizes in bytes, times in seconds."""

    disk: int
    memory: int  # of all its processes
    seconds: int
    stall: int  # the longest time without progress


class Watch:
    """Called often, it checks once a second. Raises NotPossible beyond a limit."""

    def __init__(self, server: Throwaway, limits: Limits) -> None:
        self._server, self._limits = server, limits
        self._began = self._checked = self._moved = time.monotonic()
        self._every = _INTERVAL
        self._done = (0.0, 0)  # processor seconds and bytes at the last progress

    def __call__(self) -> None:
        """Check if it is time to."""
        moment = time.monotonic()
        if moment < self._checked + self._every:
            return
        if self._server.process.status is not None:
            raise NotPossible(
                "the server for the drill ended unexpectedly", detail=self._server.last_words
            )
        used = self._check_disk()
        busy = self._check_processes()
        self._check_time(moment, busy, used)
        self._checked = time.monotonic()
        self._every = max(_INTERVAL, _COSTLY * (self._checked - moment))

    def _check_disk(self) -> int:
        site = self._server.site
        used = size_of(site.folder) + size_of(site.sockets)
        disk = shutil.disk_usage(site.folder)
        if used > self._limits.disk:
            raise NotPossible(
                f"the drill took more than {_size_text(self._limits.disk)} of disk and was ended",
                detail="This dump should not need that much: something in it fills the disk.",
                hint=f"Check what its functions and views do when they are loaded. {_ELSEWHERE}",
            )
        if disk.free < KEPT_FREE * disk.total:
            raise NotPossible(
                f"the drill was ended: less than {KEPT_FREE:.0%} of the disk is free",
                detail=f"{_size_text(disk.free)} of {_size_text(disk.total)} are free on the disk"
                f" of {site.folder}.",
                hint=f"Free some space. {_ELSEWHERE}",
            )
        return used

    def _check_processes(self) -> float:
        """The processor seconds that they have used."""
        memory, seconds, family = 0, 0.0, _family(self._server)
        for process in family:
            with suppress(psutil.Error), process.oneshot():
                about, times = process.memory_info(), process.cpu_times()
                memory += about.rss - getattr(about, "shared", 0)
                seconds += sum(times[:4])
        if memory > self._limits.memory or len(family) > _MOST_PROCESSES:
            raise NotPossible(
                f"the drill took {_size_text(memory)} of memory in {len(family)} processes and was"
                " ended",
                hint=_ELSEWHERE,
            )
        return seconds

    def _check_time(self, moment: float, busy: float, used: int) -> None:
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
                hint="Raise BACKSTOP_STALL_TIMEOUT if that is expected.",
            )


def size_of(folder: Path) -> int:
    """The space that all files below a folder use, in bytes.

    Raises NotPossible if they are nested so deeply that their paths become too long.
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
    """All its processes: bubblewrap and its descendants, or those that work in its folder."""
    with suppress(psutil.Error):
        first = psutil.Process(server.process.pid)
        return [first, *first.children(recursive=True)]
    return processes_of(server.site.folder)


def _size_text(size: int) -> str:
    return humanize.naturalsize(size, binary=True)
