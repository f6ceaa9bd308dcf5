"""A glance at the catalogue, in one cheap statement: is there anything to look at or to send?"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import exists, func, select

from app.extensions import ask
from app.models import Proof, Result, Worker
from app.models.worker import HEARTBEAT
from app.services.alerts.conditions.machine import (
    is_disk_low,
    is_worker_missed,
    note_living_worker,
    work_waits,
)
from app.services.alerts.deliveries import is_due
from app.services.alerts.news import news_waits


class State(NamedTuple):
    """What opens or closes an alarm at once when it changes, though no job has ended."""

    workers: int
    silent_workers: int
    is_worker_missed: bool
    does_work_wait: bool
    failed_proofs: int
    is_disk_low: bool


class Glance(NamedTuple):
    """What there is to do, and the state by which changes are noticed."""

    has_news: bool  # a job has ended that nobody has looked at
    has_messages: bool  # a message is due
    state: State


def take_glance(at: datetime) -> Glance:
    """Ask the catalogue, and remember whether a worker lives."""
    silent = func.count().filter(Worker.seen_at < at - 2 * HEARTBEAT)
    workers = select(func.count().label("known"), silent.label("silent")).select_from(Worker)
    failed = select(func.count()).where(Proof.result == Result.FAILED).scalar_subquery()
    counted = workers.subquery()
    query = select(
        news_waits().label("has_news"),
        exists().where(is_due(at)).label("has_messages"),
        counted.c.known,
        counted.c.silent,
        work_waits(at).label("does_work_wait"),
        failed.label("failed_proofs"),
    )
    (row,) = ask(query)
    if row.silent < row.known:
        note_living_worker(at)
    state = State(
        row.known,
        row.silent,
        is_worker_missed(at),
        bool(row.does_work_wait),
        row.failed_proofs,
        is_disk_low(),
    )
    return Glance(bool(row.has_news), bool(row.has_messages), state)
