"""Claims: which process runs a job, and whether it is still alive."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
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

_doubted: dict[str, tuple[datetime | None, float]] = {}  # the expired lease, and since when we know
_stopping = threading.Event()
_leaving = threading.Event()


@lru_cache
def runner() -> str:
    """The unique identity of this process."""
    return identity(os.getpid())


def identity(pid: int) -> str:
    """A process of this machine by host, boot, pid and start, because pids are reused."""
    boot, namespace = host.boot_id(), host.pid_namespace()
    return f"{socket.gethostname()} {boot} {namespace} {pid} {host.start_of(pid)}"


def is_dead(claimed_by: str, lease_until: datetime | None) -> bool:
    """Whether the runner of this claim has ended, or its lease has expired.

    A clock that is set forward expires a lease too early. So a live runner on this machine
    gets the time of another lease to renew it, by the monotonic clock.
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
    """Whether a process has ended, as far as is visible from this host."""
    name, boot, _, pid, start = process.split(" ")
    if name == socket.gethostname() and boot != host.boot_id():
        return True
    return _is_here(process) and host.start_of(int(pid)) != start


def _is_here(process: str) -> bool:
    """Whether it is visible here: on this host, in this boot and pid namespace."""
    return process.split(" ")[:3] == identity(os.getpid()).split(" ")[:3]


def claim(
    job_id: str,
    job: AnyJob = DatabaseBackup,
    *,
    unless: Callable[[DatabaseBackup | Restore], bool] = lambda _: False,
) -> bool:
    """Claim a pending job; False if somebody else has it, or it must wait for others."""
    with writing() as session:
        stored = session.get(job, job_id, with_for_update=True)
        row = cast("DatabaseBackup | Restore | None", stored)
        if row is None or not row.is_pending or row.claimed_by is not None:
            return False
        if unless(row):
            return False
        row.claim(runner())
        word, filename = row.word, row.filename
    logger.info("%s started filename=%s", word, filename)
    return True


def stop_runs() -> None:
    """Ask every run of this process to end; its job fails as interrupted."""
    _stopping.set()


def is_stopping() -> bool:
    """Whether the runs of this process were asked to end."""
    return _stopping.is_set()


def leave_after_this_run() -> None:
    """Note in the progress of the running job that its worker ends after it."""
    _leaving.set()


def is_leaving() -> bool:
    """Whether this process ends after the job that it runs."""
    return _leaving.is_set()


def note_process(job_id: str, pid: int, job: AnyJob = DatabaseBackup) -> None:
    """Store which program works for a job, so that others can end it if we die."""
    mine = update(job).where(job.id == job_id, job.claimed_by == runner())
    with writing() as session:
        session.execute(mine.values(process=identity(pid)))


def end_process(process: str) -> bool:
    """End a program of a dead runner and its process group; False if it is gone.

    The host, the boot and the start of the program must match.
    """
    *_, number, start = process.split(" ")
    pid = int(number)
    if not start or not _is_here(process) or host.start_of(pid) != start:
        return False
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal_number)
        deadline = time.monotonic() + _GRACE
        while host.start_of(pid) == start and time.monotonic() < deadline:
            pause(0.01)
    logger.warning("program of a dead runner ended process=%r", process)
    return True
