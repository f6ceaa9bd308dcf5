"""Clean up after the server of a drill: end its processes and remove its files.

Safe to repeat, by any worker: after a worker was killed, the next one does it.
"""

import logging
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from app.errors import ToolError
from app.programs.background import run_alone

logger = logging.getLogger(__name__)

SOCKETS = "backstop-drill-"  # how the name of a socket's folder starts

_PROGRAMS = ("bwrap", "initdb", "postgres", "setpriv", "unshare")
_GONE_TIMEOUT = 10.0  # seconds
_REMOVE_TIMEOUT = 600.0  # seconds
_PATH = {"PATH": "/usr/bin:/bin"}
_TICK = 0.05


def remove(folder: Path) -> None:
    """End the processes of a drill's server and remove its files; safe to repeat."""
    _end_leftovers(folder)
    note = folder / "sockets"
    with suppress(OSError):
        sockets = Path(note.read_text(encoding="utf-8"))
        if sockets.name.startswith(SOCKETS):
            _remove_tree(sockets)
    _remove_tree(folder)
    if folder.exists():
        logger.warning("drill server not removed folder=%s", folder)


def _remove_tree(folder: Path) -> None:
    """Remove a folder with everything that code in a dump created there, however deep."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        with suppress(ToolError, TimeoutError):
            run_alone(["rm", "-rf", "--", str(folder)], environment=_PATH, timeout=_REMOVE_TIMEOUT)


def processes_of(folder: Path) -> list[psutil.Process]:
    """The processes of the server in that folder, by working directory or arguments."""
    processes = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] in _PROGRAMS:
            with suppress(psutil.Error):  # ended meanwhile
                if _works_for(process, folder):
                    processes.append(process)
    return processes


def _works_for(process: psutil.Process, folder: Path) -> bool:
    if any(Path(word).is_relative_to(folder) for word in process.cmdline() if word[:1] == "/"):
        return True
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.AccessDenied:  # of another user
        return False


def _end_leftovers(folder: Path) -> None:
    began = time.monotonic()
    while left := [process for process in processes_of(folder) if not _is_over(process)]:
        took = time.monotonic() - began
        if took > _GONE_TIMEOUT:
            logger.warning("drill server does not end folder=%s", folder)
            return
        for process in left:
            with suppress(psutil.Error):
                # A server that is asked to end removes its shared memory. Bubblewrap ignores
                # the signal; its server ends with it.
                asks = process.name() == "postgres" and took < _GONE_TIMEOUT / 2
                process.send_signal(signal.SIGQUIT if asks else signal.SIGKILL)
        time.sleep(_TICK)


def _is_over(process: psutil.Process) -> bool:
    """Gone or a zombie: in a container, perhaps nobody ever fetches its status."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
