"""Functions that differ between operating systems: accounts, processes, locks on files.

They work on Linux and macOS. app/programs/launch.py, which is not part of this process,
does the same for limits and for programs that end with us.
"""

import fcntl
import os
import pwd
import threading
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import psutil

PROC = Path("/proc")  # only on Linux
_LAST = 19  # as nice has it


class UserIds(NamedTuple):
    """The ids of an account."""

    uid: int
    gid: int


def own_user() -> str:
    """The user of this process, whatever its environment; it may have no name in a container."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def find_user(name: str) -> UserIds | None:
    """The account with this name; None if there is none."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return UserIds(entry.pw_uid, entry.pw_gid)


def yield_to_others() -> None:
    """Let all other threads of the machine go before this one, where threads have priorities."""
    if PROC.exists():  # elsewhere it would be the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LAST)


def lock_alone(descriptor: int, *, waits: bool = False) -> None:
    """Lock an open file exclusively. Raises BlockingIOError if it is locked, OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))


def lock_shared(descriptor: int, *, waits: bool = False) -> None:
    """Lock an open file together with others. Raises as `lock_alone`."""
    fcntl.flock(descriptor, fcntl.LOCK_SH | (0 if waits else fcntl.LOCK_NB))


def unlock(descriptor: int) -> None:
    """Unlock an open file. Raises OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


@lru_cache
def boot_id() -> str:
    """The id of this boot of the machine."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"


@lru_cache
def pid_namespace() -> str:
    """The pid namespace: containers can share the name of a host, and see other processes."""
    try:
        return str((PROC / "self/ns/pid").readlink())
    except OSError:
        return "-"


def start_of(pid: int) -> str:
    """When a process started; empty if it is gone.

    On Linux in ticks since the boot, because setting the clock would change other forms
    (proc(5), field 22).
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        state, *others = fields.rpartition(")")[2].split()
        return "" if state in "ZX" else others[18]
    except FileNotFoundError:
        if (PROC / "self/stat").exists():
            return ""
    except ProcessLookupError:
        return ""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""
