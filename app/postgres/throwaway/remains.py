"""What a drill's server leaves: end what still runs of it, and remove all of its files.

Safe to repeat, and for anybody to do: a worker that was killed leaves it to the next.
"""

import logging
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from app.errors import ToolError
from app.postgres.background import run_alone

logger = logging.getLogger(__name__)

SOCKETS = "backstop-drill-"  # how the folder of a socket is called

_PROGRAMS = ("bwrap", "initdb", "postgres", "setpriv", "unshare")
_GONE_TIMEOUT = 10.0  # seconds
_REMOVE_TIMEOUT = 600.0  # seconds
_PATH = {"PATH": "/usr/bin:/bin"}
_TICK = 0.05


def remove(folder: Path) -> None:
    """End what still runs of a drill's server and remove all of its files; safe to repeat."""
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
    """Remove a folder with all that code of a dump has made in it, however deep."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        with suppress(ToolError, TimeoutError):
            run_alone(["rm", "-rf", "--", str(folder)], environment=_PATH, timeout=_REMOVE_TIMEOUT)


def processes_of(folder: Path) -> list[psutil.Process]:
    """What runs for the server in that folder, by where it works or what it was told."""
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] in _PROGRAMS:
            with suppress(psutil.Error):  # ended meanwhile
                if _works_for(process, folder):
                    found.append(process)
    return found


def _works_for(process: psutil.Process, folder: Path) -> bool:
    if any(Path(word).is_relative_to(folder) for word in process.cmdline() if word[:1] == "/"):
        return True
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.AccessDenied:  # somebody else's
        return False


def _end_leftovers(folder: Path) -> None:
    began = time.monotonic()
    while left := [each for each in processes_of(folder) if not _is_over(each)]:
        took = time.monotonic() - began
        if took > _GONE_TIMEOUT:
            logger.warning("drill server does not end folder=%s", folder)
            return
        for process in left:
            with suppress(psutil.Error):
                # A server by itself takes its shared memory along, if it is asked to end. To
                # bubblewrap that would mean nothing: its server goes with it.
                asks = process.name() == "postgres" and took < _GONE_TIMEOUT / 2
                process.send_signal(signal.SIGQUIT if asks else signal.SIGKILL)
        time.sleep(_TICK)


def _is_over(process: psutil.Process) -> bool:
    """Gone, or a zombie: in a container nobody may ever fetch its status."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
