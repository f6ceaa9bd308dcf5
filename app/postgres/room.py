"""How much room is left where a server keeps its databases, if that can be seen from here."""

import shutil
from typing import NamedTuple

import psutil

#: What serves us, when it began, and where it writes, if we may know.
WHERE = """
    SELECT pid, extract(epoch FROM backend_start)::float,
           (SELECT setting FROM pg_settings WHERE name = 'data_directory')
    FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
_NEAR = 2.0  # seconds


class Disk(NamedTuple):
    """How large the disk of a server is, and how much of it is free, in bytes."""

    total: int
    free: int


def disk_of(pid: int, began: float, folder: str | None) -> Disk | None:
    """That with the folder of the server whose process it is; None where it is elsewhere."""
    try:
        process = psutil.Process(pid)
        # Else it runs on another machine, or in a container with other folders.
        is_here = "postgres" in process.name() and abs(process.create_time() - began) < _NEAR
        if not folder or not is_here:
            return None
        usage = shutil.disk_usage(folder)
        return Disk(usage.total, usage.free)
    except (psutil.Error, OSError):
        return None
