"""How much room is left where a server keeps its databases, if that can be seen from here."""

import shutil

import psutil

#: What serves us, when it began, and where it writes, if we may know.
WHERE = """
    SELECT pid, extract(epoch FROM backend_start)::float,
           (SELECT setting FROM pg_settings WHERE name = 'data_directory')
    FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
_NEAR = 2.0  # seconds


def free_where(pid: int, began: float, folder: str | None) -> int | None:
    """Bytes left in the folder of the server whose process it is; None where it is elsewhere."""
    try:
        process = psutil.Process(pid)
        # Else it runs on another machine, or in a container with other folders.
        is_here = "postgres" in process.name() and abs(process.create_time() - began) < _NEAR
        return shutil.disk_usage(folder).free if folder and is_here else None
    except (psutil.Error, OSError):
        return None
