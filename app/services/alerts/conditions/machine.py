"""The machine, the workers and the notifiers themselves."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import aliased

from app.config import settings
from app.errors import StorageError
from app.extensions import db
from app.models import (
    Alarm,
    AnyJob,
    DatabaseBackup,
    Delivery,
    DeliveryStatus,
    Fact,
    Notifier,
    Restore,
    Status,
    Worker,
)
from app.models.delivery import TEST
from app.models.types import moment_text
from app.models.worker import HEARTBEAT
from app.services.alerts.conditions.trouble import Trouble, size_text
from app.services.databases.configured import storage
from app.services.jobs import claims
from app.services.jobs.workers import is_silent

_NONE = "none"  # the subject where no worker is left
_EXPECTED = timedelta(days=1)  # a worker is missed for so long after one was seen
_TRIED = 3  # failed attempts until a notifier is in trouble, about 20 minutes

#: When a worker was last seen alive from this process, by catalogue: one that
#: ends politely leaves no row.
_alive_at: dict[str, datetime] = {}


def low_disk() -> Iterator[Trouble]:
    """Less free space than the setting asks for."""
    free, bound = _free_space(), settings().alarm_free_space
    if free is not None and free < bound:
        yield Trouble(
            Fact.DISK_LOW,
            str(settings().backup_dir)[:600],
            "The disk of the backups is nearly full",
            f"{size_text(free)} are free in {settings().backup_dir};"
            f" the minimum is {size_text(bound)} (BACKSTOP_ALARM_FREE_SPACE).",
        )


def is_disk_low() -> bool:
    """Whether there is less free space than the setting asks for."""
    free = _free_space()
    return free is not None and free < settings().alarm_free_space


def _free_space() -> int | None:
    """Bytes; None if the alarm is off, or if backups report the trouble themselves."""
    try:
        return storage().free_space() if settings().alarm_free_space else None
    except StorageError:
        return None


def silent_workers(at: datetime) -> Iterator[Trouble]:
    """Each silent worker while others live; or the lack of any, if one is missed."""
    known = list(db.session.scalars(select(Worker)))
    silent = [worker for worker in known if is_silent(worker, at)]
    if len(silent) < len(known):
        note_living_worker(at)
        for worker in silent:
            if not claims.is_gone(worker.id):  # one that was killed has its successor
                yield _silent(worker)
        return
    heard = max((worker.seen_at for worker in known), default=None) or _alive_at.get(
        settings().catalogue_url
    )
    if heard is not None and heard > at - 2 * HEARTBEAT:
        return  # it may be starting again
    is_missed = heard is not None and heard > at - _EXPECTED
    if is_missed or db.session.scalar(select(work_waits(at))) or _is_told_already(at):
        last = f"The last was seen at {moment_text(heard)}. " if heard else ""
        yield Trouble(
            Fact.WORKER_SILENT,
            _NONE,
            "No worker runs",
            f"{last}Requests of pages and API wait, and no schedule runs."
            " Start a worker with flask worker, or everything with flask panel.",
            since=heard,
        )


def note_living_worker(at: datetime) -> None:
    """Remember that a worker lived at this moment."""
    _alive_at[settings().catalogue_url] = at


def is_worker_missed(at: datetime) -> bool:
    """Whether this process has seen a worker, but none for two heartbeats."""
    seen_at = _alive_at.get(settings().catalogue_url)
    return seen_at is not None and seen_at <= at - 2 * HEARTBEAT


def work_waits(at: datetime) -> ColumnElement[bool]:
    """In a query: whether a job waits for longer than a worker would let it."""
    jobs: tuple[AnyJob, ...] = (DatabaseBackup, Restore)
    return or_(
        *(
            exists().where(
                job.status == Status.PENDING,
                job.told_at.is_(None),  # always true; it makes the planner take the small index
                job.claimed_by.is_(None),
                job.created_at < at - 2 * HEARTBEAT,
            )
            for job in jobs
        )
    )


def failing_notifiers(at: datetime) -> Iterator[Trouble]:
    """Those that have not accepted a message of the last day, nor any later one."""
    taken = aliased(Delivery)
    failed = exists().where(
        Delivery.notifier_id == Notifier.id,
        Delivery.created_at > at - timedelta(days=1),
        Delivery.status != DeliveryStatus.SENT,
        Delivery.attempts >= _TRIED,
        Delivery.fact != TEST,
        ~exists().where(
            taken.notifier_id == Notifier.id,
            taken.created_at > at - timedelta(days=2),
            taken.status == DeliveryStatus.SENT,
            taken.ended_at > Delivery.created_at,
        ),
    )
    for notifier in db.session.scalars(select(Notifier).where(Notifier.enabled, failed)):
        yield Trouble(
            Fact.NOTIFIER_FAILED,
            notifier.id,
            f"Notifier {notifier.name} does not accept messages",
            f"{notifier.target}: the page Notifiers shows the attempts.",
        )


def _silent(worker: Worker) -> Trouble:
    host, *_, pid, _ = worker.id.split(" ")
    return Trouble(
        Fact.WORKER_SILENT,
        worker.id,
        f"A worker on {host} is silent",
        f"Process {pid} was last seen at {moment_text(worker.seen_at)}."
        " It may hang, or its machine may be down; the other workers do its work.",
        since=worker.seen_at,
    )


def _is_told_already(at: datetime) -> bool:
    """Whether the alarm is open, for a week at most: it must not close because nobody remembers."""
    open_alarm = select(Alarm.id).where(
        Alarm.kind == Fact.WORKER_SILENT,
        Alarm.subject == _NONE,
        Alarm.closed_at.is_(None),
        Alarm.opened_at > at - timedelta(weeks=1),
    )
    return db.session.scalar(open_alarm) is not None
