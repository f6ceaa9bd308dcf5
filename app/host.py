"""What differs between operating systems: accounts, processes, locks on files.

All of it works on Linux and on macOS; where one lacks a thing, another takes its
place. Only app/postgres/launch.py, which is no part of this process, does the same
for limits and for programs that end with us.
"""

import fcntl
import os
import pwd
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import psutil

PROC = Path("/proc")  # Linux alone has it


class UserIds(NamedTuple):
    """The numbers of an account."""

    uid: int
    gid: int


def own_user() -> str:
    """Who runs this process, whatever its environment says; in a container it may have no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def find_user(name: str) -> UserIds | None:
    """An account by its name; None where there is none."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return UserIds(entry.pw_uid, entry.pw_gid)


def lock_alone(descriptor: int, *, waits: bool = False) -> None:
    """Hold an open file for us alone. Raises BlockingIOError where another holds it, OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))


def lock_shared(descriptor: int, *, waits: bool = False) -> None:
    """Hold an open file with others. Raises BlockingIOError where one has it alone, OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_SH | (0 if waits else fcntl.LOCK_NB))


def unlock(descriptor: int) -> None:
    """Let an open file go. Raises OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


@lru_cache
def boot_id() -> str:
    """What tells this boot of the machine from others."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"


@lru_cache
def pid_namespace() -> str:
    """Containers of one host can share its name, and see other processes."""
    try:
        return str((PROC / "self/ns/pid").readlink())
    except OSError:
        return "-"


def start_of(pid: int) -> str:
    """When a process began; empty if it is gone. On Linux in ticks since the boot:

    a clock that is set would change any other form (proc(5), field 22).
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
