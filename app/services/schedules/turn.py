"""Let schedules happen: each due time once, whoever dies, and a missed one is caught up.

huey has a scheduler of its own, but runs what it fires in the one thread that
may be busy with a backup for hours, and forgets what was due while it slept.
So the worker looks here at each of its heartbeats; the catalogue says what was
done: a unique row for each schedule and due time.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice, takewhile

from sqlalchemy import delete, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import AppError
from app.extensions import db, writing
from app.models import (
    Firing,
    Outcome,
    Schedule,
    Task,
)
from app.models.types import moment_text, now
from app.services.databases.configured import database_name
from app.services.schedules import fire
from app.services.schedules import service as schedules

logger = logging.getLogger(__name__)

_PER_TURN = 100  # schedules and due times that one turn takes; the rest is of the next
_LATE = timedelta(minutes=2)  # after which a due time was missed, and is caught up

_COUNTED = 1_000  # missed times that are counted
_KEPT = timedelta(days=90)  # for which due times are remembered


def turn(at: datetime | None = None) -> None:
    """Do what is due at a moment: fire, try again, and see what became of earlier ones.

    Any number of workers may do this at once, and die anywhere.
    """
    at = at or now()
    for each in _list_due(at):
        with _alone(each):
            _fire(each, at)
    for each in _list_open(at, Outcome.RUNNING):
        with _alone(each):
            fire.settle(each, at)
    for each in _list_open(at, Outcome.WAITING):
        with _alone(each):
            fire.attempt(each, at)


def forget(at: datetime | None = None) -> None:
    """Forget due times of long ago."""
    with writing() as session:
        session.execute(delete(Firing).where(Firing.due_at < (at or now()) - _KEPT))


@contextmanager
def _alone(what: str) -> Iterator[None]:
    """What is wrong with one schedule, such as a zone that is no more, holds up no other."""
    try:
        yield
    except (AppError, KeyError, ValueError):
        db.session.rollback()
        logger.exception("schedule cannot be followed id=%s", what)


def _list_open(at: datetime, outcome: Outcome) -> list[str]:
    server, database = database_name()
    waiting = (
        select(Firing.id)
        .join(Schedule)
        .where(
            Schedule.server == server,
            Schedule.database == database,
            Firing.outcome == outcome,
        )
        .order_by(Firing.next_attempt_at)
        .limit(_PER_TURN)
    )
    if outcome is Outcome.WAITING:  # or from before the clock was set back
        soon = at + fire.BACK_OFF[-1] + fire.CLOCK
        waiting = waiting.where(
            Schedule.task != Task.SCRUB,
            or_(Firing.next_attempt_at <= at, Firing.next_attempt_at > soon),
        )
    found = list(db.session.scalars(waiting))
    db.session.commit()
    return found


# Fire


def _list_due(at: datetime) -> list[str]:
    server, database = database_name()
    due = (
        select(Schedule.id)
        .where(
            Schedule.server == server,
            Schedule.database == database,
            Schedule.enabled,
            or_(Schedule.next_due_at <= at, Schedule.reckoned_at > at + fire.CLOCK),
        )
        .order_by(Schedule.next_due_at)
        .limit(_PER_TURN)
    )
    found = list(db.session.scalars(due))
    db.session.commit()
    return found


def _fire(schedule_id: str, at: datetime) -> None:
    """Write down that a due time has come; the unique row lets one worker do it."""
    try:
        with writing() as session:
            schedule = session.get(Schedule, schedule_id, with_for_update=True)
            if schedule is None or schedule.next_due_at is None:
                return
            since = schedule.next_due_at
            schedules.reckon(schedule, at)
            if since > at:
                logger.warning("clock was set back schedule=%r", schedule.name)
                return
            firing = _due_firing(schedule, since, at)
            if firing is None:
                return
            session.add(firing)
            session.flush()
            if firing.told:
                _tell_missed(session, schedule, firing, at)
            name, missed, due = schedule.name, firing.missed, firing.due_at
    except IntegrityError:
        return  # somebody else was quicker
    log = logger.warning if missed else logger.info
    log("schedule due name=%r due=%s missed=%d", name, moment_text(due), missed)


def _due_firing(schedule: Schedule, since: datetime, at: datetime) -> Firing | None:
    """The latest of the due times since one, where the others before it were missed.

    None if all were fired already: before the clock was set back.
    """
    known = select(Firing.due_at).where(
        Firing.schedule_id == schedule.id, Firing.due_at.between(since, at)
    )
    fired = set(db.session.scalars(known))
    just_now = at + timedelta(milliseconds=1)
    before = schedules.times_before(schedule.cron, schedule.timezone, just_now)
    passed = takewhile(lambda time: time >= since, islice(before, _COUNTED))
    times = [each for each in passed if each not in fired]
    if not times:
        return None
    firing = Firing(schedule=schedule, due_at=times[0], next_attempt_at=at)
    firing.missed = len(times) - 1
    if firing.missed:
        firing.missed_since = times[-1]
    if firing.missed or at - times[0] > _LATE:
        firing.told = f"caught up at {moment_text(at)}: no worker was there when it was due"
    return firing


def _tell_missed(session: Session, schedule: Schedule, firing: Firing, at: datetime) -> None:
    since = moment_text(firing.missed_since or firing.due_at)
    times = f"{firing.missed + 1} times" if firing.missed else "a time"
    body = f"Nobody was there at {times} since {since}: was the machine asleep, or no worker up?"
    what = "was missed, and is caught up"
    fire.tell(session, schedule, key=f"missed:{firing.id}", what=what, body=body, at=at)
