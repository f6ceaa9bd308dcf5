"""Who runs a backup, and whether that runner still lives."""

import logging
import os
import socket
import threading
import time
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import psutil
from sqlalchemy import CursorResult, update
from sqlalchemy.exc import OperationalError

from app.errors import Interrupted
from app.extensions import writing
from app.models import BackupStatus, DatabaseBackup
from app.models.backup import LEASE
from app.models.types import now

logger = logging.getLogger(__name__)

_RENEW_EVERY = 10.0  # seconds; six times within a lease

_stopping = threading.Event()


@lru_cache
def runner() -> str:
    """This process, so that no other one is ever taken for it."""
    return identity(os.getpid())


def identity(pid: int) -> str:
    """A process of this machine by host, boot, pid and start: a pid alone comes again."""
    return f"{socket.gethostname()} {_boot_id()} {_pid_namespace()} {pid} {_start_of(pid)}"


def is_dead(claimed_by: str, lease_until: datetime | None) -> bool:
    """Whether the runner of this claim is known to be gone, or its lease is over."""
    return is_gone(claimed_by) or lease_until is None or lease_until < now()


def is_gone(process: str) -> bool:
    """Whether a process is known to have ended; one of another host is not."""
    host, boot, namespace, pid, start = process.split(" ")
    if host != socket.gethostname():
        return False
    return boot != _boot_id() or (namespace == _pid_namespace() and _start_of(int(pid)) != start)


def claim(backup_id: str) -> bool:
    """Take a pending backup that nobody runs; False if somebody was quicker."""
    with writing() as session:
        backup = session.get(DatabaseBackup, backup_id, with_for_update=True)
        if backup is None or not backup.is_pending or backup.claimed_by is not None:
            return False
        backup.claim(runner())
    return True


def stop_runs() -> None:
    """Ask every run of this process to end: its backup fails as interrupted."""
    _stopping.set()


class Lease:
    """Renews the claim on one backup while it runs."""

    def __init__(self, backup_id: str) -> None:
        self._backup_id = backup_id
        self._renewed = time.monotonic()

    def check(self, *, now_at_once: bool = False) -> None:
        """Renew the lease when it is time; raise Interrupted if the run must end."""
        if _stopping.is_set():
            raise Interrupted(
                "the backup was interrupted",
                detail="Its runner was told to stop.",
                hint="Start the backup again.",
            )
        if now_at_once or time.monotonic() > self._renewed + _RENEW_EVERY:
            try:
                self._renew()
            except OperationalError as error:
                if now_at_once or time.monotonic() > self._renewed + LEASE.total_seconds():
                    raise
                # The catalogue may be back before the lease is over.
                logger.warning("lease not renewed error=%r", str(error.orig))
                return
            self._renewed = time.monotonic()

    def _renew(self) -> None:
        mine = (
            update(DatabaseBackup)
            .where(
                DatabaseBackup.id == self._backup_id,
                DatabaseBackup.status == BackupStatus.PENDING,
                DatabaseBackup.claimed_by == runner(),
            )
            .values(lease_until=now() + LEASE)
        )
        with writing() as session:
            result = session.execute(mine)
            lost = isinstance(result, CursorResult) and result.rowcount == 0
        if lost:
            raise Interrupted(
                "the backup was given up meanwhile",
                detail="Its lease ran out: this process was asleep, or the clock was changed.",
                hint="Start the backup again.",
            )


@lru_cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return f"{psutil.boot_time():.0f}"


@lru_cache
def _pid_namespace() -> str:
    """Containers of one host can share its name, and see other processes."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        return "-"


def _start_of(pid: int) -> str:
    """When a process began; empty if it is gone. On Linux in ticks since the boot:

    a clock that is set would change any other form (proc(5), field 22).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *others = fields.rpartition(")")[2].split()
        return "" if state in "ZX" else others[18]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except ProcessLookupError:
        return ""
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""
