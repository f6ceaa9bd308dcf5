"""Run schedules: each due time once, whichever worker dies, and a missed one is caught up.

huey has a scheduler of its own, but it runs what it fires in the one thread that
may be busy with a backup for hours, and forgets what was due while it slept. So
the worker takes a turn here at each of its heartbeats. The catalogue records what
was done: a unique row for each schedule and due time.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice, takewhile

from sqlalchemy import Select, delete, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import AppError
from app.extensions import ask, db, writing
from app.models import Database, Firing, Outcome, Schedule, State, Task
from app.models.types import moment_text, now
from app.services.alerts import deliveries
from app.services.databases.lookup import is_active, is_known
from app.services.schedules import fire
from app.services.schedules import service as schedules
from app.services.schedules.times import times_before

logger = logging.getLogger(__name__)

_PER_TURN = 100  # schedules and due times in one turn; the next one takes the rest
_LATE = timedelta(minutes=2)  # after which a due time was missed, and is caught up

_COUNTED = 1_000  # missed times at most
_KEPT = timedelta(days=90)  # for due times


def turn(at: datetime | None = None) -> None:
    """Fire what is due, settle what has ended, and attempt what waits.

    Any number of workers may do this at once, and die anywhere.
    """
    at = at or now()
    if not _is_anything_open(at):
        return
    for schedule_id in _ids(_due(at)):
        with _isolated(schedule_id):
            _fire(schedule_id, at)
    for firing_id in _ids(_running()):
        with _isolated(firing_id):
            fire.settle(firing_id, at)
    for firing_id in _ids(_waiting(at)):
        with _isolated(firing_id):
            fire.attempt(firing_id, at)


def forget(at: datetime | None = None) -> None:
    """Remove old due times."""
    with writing() as session:
        session.execute(delete(Firing).where(Firing.due_at < (at or now()) - _KEPT))


@contextmanager
def _isolated(row_id: str) -> Iterator[None]:
    """A problem of one schedule, such as a zone that no longer exists, delays no other."""
    try:
        yield
    except (AppError, KeyError, ValueError):
        db.session.rollback()
        logger.exception("schedule cannot be followed id=%s", row_id)


def _is_anything_open(at: datetime) -> bool:
    """One cheap statement, as this is asked every few seconds."""
    queries = (_due(at), _running(), _waiting(at))
    return bool(ask(select(or_(*(query.exists() for query in queries))))[0][0])


def _ids(query: Select[str]) -> list[str]:
    """Those of one turn."""
    ids = list(db.session.scalars(query.limit(_PER_TURN)))
    db.session.commit()
    return ids


def _due(at: datetime) -> Select[str]:
    """Schedules whose time has come, or that were reckoned before the clock was set back."""
    is_due = or_(Schedule.next_due_at <= at, Schedule.reckoned_at > at + fire.CLOCK)
    due = select(Schedule.id).join(Database)
    return due.where(is_known(), Schedule.enabled, is_due).order_by(Schedule.next_due_at)


def _running() -> Select[str]:
    return _open(Outcome.RUNNING)


def _waiting(at: datetime) -> Select[str]:
    """Due times that may be attempted, or that wait from before the clock was set back."""
    soon = at + fire.BACK_OFF[-1] + fire.CLOCK
    is_due = or_(Firing.next_attempt_at <= at, Firing.next_attempt_at > soon)
    return _open(Outcome.WAITING).where(is_active(), Schedule.task != Task.SCRUB, is_due)


def _open(outcome: Outcome) -> Select[str]:
    open_ones = select(Firing.id).join(Schedule).join(Database)
    open_ones = open_ones.where(Firing.outcome == outcome)
    return open_ones.order_by(Firing.next_attempt_at)


# Fire


def _fire(schedule_id: str, at: datetime) -> None:
    """Record that a due time has come; the unique row lets only one worker do it."""
    try:
        with writing() as session:
            schedule = session.get(Schedule, schedule_id, with_for_update=True)
            if schedule is None or schedule.next_due_at is None:
                return
            since = schedule.next_due_at
            schedules.reckon(schedule, at)
            if schedule.database.state is not State.ACTIVE:
                return  # not caught up later
            if since > at:
                logger.warning("clock was set back schedule=%r", schedule.name)
                return
            firing = _due_firing(schedule, since, at)
            if firing is None:
                return
            session.add(firing)
            session.flush()
            if firing.told:
                _queue_missed(session, schedule, firing, at)
            name, missed, due = schedule.name, firing.missed, firing.due_at
    except IntegrityError:
        return  # another worker was quicker
    log = logger.warning if missed else logger.info
    log("schedule due name=%r due=%s missed=%d", name, moment_text(due), missed)


def _due_firing(schedule: Schedule, since: datetime, at: datetime) -> Firing | None:
    """The latest due time since `since`; those before it were missed.

    None if all were fired already, before the clock was set back.
    """
    known = select(Firing.due_at).where(
        Firing.schedule_id == schedule.id, Firing.due_at.between(since, at)
    )
    fired = set(db.session.scalars(known))
    just_now = at + timedelta(milliseconds=1)
    newest_first = times_before(schedule.cron, schedule.timezone, just_now)
    passed = takewhile(lambda time: time >= since, islice(newest_first, _COUNTED))
    times = [time for time in passed if time not in fired]
    if not times:
        return None
    firing = Firing(schedule=schedule, due_at=times[0], next_attempt_at=at)
    firing.missed = len(times) - 1
    if firing.missed:
        firing.missed_since = times[-1]
    if firing.missed or at - times[0] > _LATE:
        firing.told = f"caught up at {moment_text(at)}: no worker was running when it was due"
    return firing


def _queue_missed(session: Session, schedule: Schedule, firing: Firing, at: datetime) -> None:
    since = moment_text(firing.missed_since or firing.due_at)
    times = f"{firing.missed + 1} runs" if firing.missed else "a run"
    body = f"No worker was running for {times} due since {since}. Was the machine asleep?"
    what, key = "missed a run and is catching up", f"missed:{firing.id}"
    deliveries.queue(session, [fire.message_of(schedule, what, body, key=key)], at)
