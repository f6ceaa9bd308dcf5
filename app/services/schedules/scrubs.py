"""Scrubs that are due: claimed by one worker, which reads one dump after the other."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from cuid2 import create_id
from sqlalchemy import exists, func, select, update
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import aliased

from app.errors import Interrupted
from app.extensions import ask, writing
from app.models import Database, Firing, Outcome, Result, Schedule, Task
from app.models.types import now
from app.services.databases.lookup import is_active
from app.services.jobs import claims
from app.services.proofs.scrub import scrub
from app.services.schedules import fire

logger = logging.getLogger(__name__)

_SCRUBBING = timedelta(minutes=5)  # a claim that is not renewed for so long is over
_RENEW_EVERY = 60.0  # seconds
_LOCK = 0x7363727562  # of an advisory lock: one scrub at a time is taken


def scrub_due(at: datetime | None = None) -> None:
    """Run the scrubs that are due: read each dump that is due to be read.

    Scrubs run in a thread of their own beside backups, one at a time across all
    workers. If the process of one dies, a worker takes it up again.
    """
    at = at or now()
    for firing_id in _scrubs_due(at):
        claim = _take_scrub(firing_id, at)
        if claim is not None:
            _scrub(firing_id, claim)


def _scrub(firing_id: str, claim: str) -> None:
    read, reasons = 0, []
    renewing = _renewing(firing_id, claim)
    try:
        while (done := scrub(renewing)) is not None:
            if done.result is Result.NOT_POSSIBLE:
                reasons.append(f"{done.filename}: {done.reason}")
            else:
                read += 1
    except Interrupted as error:
        logger.info("scrub interrupted firing=%s reason=%r", firing_id, error.message)
        return  # a worker takes it up again
    summary = f"dumps read: {read}"
    if reasons:
        summary += f"; not possible: {len(reasons)}, such as {reasons[0]}"
    fire.end(firing_id, Outcome.NOT_POSSIBLE if reasons else Outcome.COMPLETED, summary, now())


def _renewing(firing_id: str, claim: str) -> Callable[[], None]:
    """Returns a function that keeps the claim; it raises Interrupted when the scrub must end."""
    renewed = time.monotonic()

    def renew() -> None:
        nonlocal renewed
        if claims.is_stopping() or claims.is_leaving():
            raise Interrupted("the process ends")
        if time.monotonic() < renewed + _RENEW_EVERY:
            return
        renewed = time.monotonic()
        mine = update(Firing).where(Firing.id == firing_id, Firing.job_id == claim)
        try:
            with writing() as session:
                done = session.execute(mine.values(next_attempt_at=now() + _SCRUBBING))
        except DatabaseError as error:  # the claim outlasts a few failures
            logger.warning("scrub not renewed firing=%s error=%r", firing_id, str(error.orig))
        else:
            if done.rowcount != 1:  # type: ignore[attr-defined]
                raise Interrupted("another worker has taken the scrub")

    return renew


def _scrubs_due(at: datetime) -> list[str]:
    due = (
        select(Firing.id)
        .join(Schedule)
        .join(Database)
        .where(
            is_active(),
            Schedule.task == Task.SCRUB,
            Firing.outcome.in_([Outcome.WAITING, Outcome.RUNNING]),
            Firing.next_attempt_at <= at,
        )
        .order_by(Firing.next_attempt_at, Firing.id)
    )
    return [firing_id for (firing_id,) in ask(due)]


def _take_scrub(firing_id: str, at: datetime) -> str | None:
    """Claim a scrub and return the claim; None if a worker runs this or another one."""
    claim, other = create_id(), aliased(Firing)
    of_scrub = exists().where(Schedule.id == other.schedule_id, Schedule.task == Task.SCRUB)
    busy = exists().where(other.outcome == Outcome.RUNNING, other.next_attempt_at > at, of_scrub)
    taken = (
        update(Firing)
        .where(
            Firing.id == firing_id,
            Firing.outcome.in_([Outcome.WAITING, Outcome.RUNNING]),
            Firing.next_attempt_at <= at,
            ~busy,
        )
        .values(outcome=Outcome.RUNNING, job_id=claim, next_attempt_at=now() + _SCRUBBING)
    )
    with writing() as session:
        if session.connection().dialect.name == "postgresql":
            session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        done = session.execute(taken).rowcount  # type: ignore[attr-defined]
    return claim if done else None
