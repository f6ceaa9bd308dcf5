"""Who runs a backup, and whether that runner still lives."""

import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import cast

from sqlalchemy import update

from app import host
from app.extensions import writing
from app.models import AnyJob, DatabaseBackup, Restore
from app.models.job import LEASE
from app.models.types import now
from app.pausing import pause

logger = logging.getLogger(__name__)

_GRACE = 1.0  # seconds between SIGTERM and SIGKILL

_doubted: dict[str, tuple[datetime | None, float]] = {}  # lease, and since when it is over
_stopping = threading.Event()
_leaving = threading.Event()


@lru_cache
def runner() -> str:
    """This process, so that no other one is ever taken for it."""
    return identity(os.getpid())


def identity(pid: int) -> str:
    """A process of this machine by host, boot, pid and start: a pid alone comes again."""
    boot, namespace = host.boot_id(), host.pid_namespace()
    return f"{socket.gethostname()} {boot} {namespace} {pid} {host.start_of(pid)}"


def is_dead(claimed_by: str, lease_until: datetime | None) -> bool:
    """Whether the runner of this claim is known to be gone, or its lease is over.

    A clock that was set forward ends a lease too early. So a runner that lives
    here is given the time of another lease to renew it, by a clock that nobody
    sets; it may have been stopped for good all the same.
    """
    if is_gone(claimed_by):
        return True
    if lease_until is not None and lease_until >= now():
        return False
    if not _is_here(claimed_by):
        return True
    lease, since = _doubted.get(claimed_by, (None, 0.0))
    if lease != lease_until:
        since = time.monotonic()
        _doubted[claimed_by] = (lease_until, since)
    return time.monotonic() > since + LEASE.total_seconds()


def is_gone(process: str) -> bool:
    """Whether a process is known to have ended; one of another host is not."""
    name, boot, _, pid, start = process.split(" ")
    if name == socket.gethostname() and boot != host.boot_id():
        return True
    return _is_here(process) and host.start_of(int(pid)) != start


def _is_here(process: str) -> bool:
    """Whether it ran where we could see it: on this host, in this boot and pid namespace."""
    return process.split(" ")[:3] == identity(os.getpid()).split(" ")[:3]


def claim(job_id: str, job: AnyJob = DatabaseBackup) -> bool:
    """Take a pending backup or restore that nobody runs; False if somebody was quicker."""
    with writing() as session:
        found = session.get(job, job_id, with_for_update=True)
        row = cast("DatabaseBackup | Restore | None", found)
        if row is None or not row.is_pending or row.claimed_by is not None:
            return False
        row.claim(runner())
        word, filename = row.word, row.filename
    logger.info("%s started filename=%s", word, filename)
    return True


def stop_runs() -> None:
    """Ask every run of this process to end: its backup fails as interrupted."""
    _stopping.set()


def is_stopping() -> bool:
    """Whether the runs of this process were asked to end."""
    return _stopping.is_set()


def leave_after_this_run() -> None:
    """Tell on the row of the running backup that its worker ends after it."""
    _leaving.set()


def is_leaving() -> bool:
    """Whether this process ends after the backup that it runs."""
    return _leaving.is_set()


def note_process(job_id: str, pid: int, job: AnyJob = DatabaseBackup) -> None:
    """Write down which program is at work, so that it can be ended if we cannot any more."""
    mine = update(job).where(job.id == job_id, job.claimed_by == runner())
    with writing() as session:
        session.execute(mine.values(process=identity(pid)))


def end_process(process: str) -> bool:
    """End a program, with its group, that a dead runner left behind; False if it is gone.

    Only on the host, in the boot and with the start that were written down.
    """
    *_, number, start = process.split(" ")
    pid = int(number)
    if not start or not _is_here(process) or host.start_of(pid) != start:
        return False
    for each in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, each)
        deadline = time.monotonic() + _GRACE
        while host.start_of(pid) == start and time.monotonic() < deadline:
            pause(0.01)
    logger.warning("program of a dead runner ended process=%r", process)
    return True
