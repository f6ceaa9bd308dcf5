"""The disk of a server, if it is visible from here."""

import shutil
from typing import NamedTuple

import psutil

#: Our server process, its start, and the data directory if we may know it.
WHERE = """
    SELECT pid, extract(epoch FROM backend_start)::float,
           (SELECT setting FROM pg_settings WHERE name = 'data_directory')
    FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
_NEAR = 2.0  # seconds


class Disk(NamedTuple):
    """The size of a server's disk and the free space on it, in bytes."""

    total: int
    free: int


def disk_of(pid: int, began: float, folder: str | None) -> Disk | None:
    """The disk of `folder`, if the process that began then is a server on this machine."""
    try:
        process = psutil.Process(pid)
        # If not, it is on another machine, or in a container with other folders.
        is_here = "postgres" in process.name() and abs(process.create_time() - began) < _NEAR
        if not folder or not is_here:
            return None
        usage = shutil.disk_usage(folder)
        return Disk(usage.total, usage.free)
    except (psutil.Error, OSError):
        return None
