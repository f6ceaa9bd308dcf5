"""Schedules: what is done when, in cron's form and somebody's time zone.

The times are those of Debian's cron, as cronsim reckons them: where a clock is
set forward, a job of the missing hour runs right after it; where it is set
back, a job at a fixed time runs once, one of each hour or minute in both hours.
"""

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, aliased, contains_eager

from app.errors import Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.models import Firing, Schedule, SeenDatabase, Task
from app.models.types import now
from app.services.alerts.heartbeats import sealed_url
from app.services.audit.acting import acting, tell
from app.services.backups.service import checked_notes
from app.services.databases.configured import DatabaseName, database_name

logger = logging.getLogger(__name__)

MAX_SCHEDULES = 1_000  # of one database
MAX_NAME = 100  # characters
MAX_CRON = 255

_FIELDS = 5  # minute, hour, day of the month, month, day of the week

#: Made once for a database: what a backup is worth is only known by a drill.
_FIRST = (("weekly drill", Task.DRILL, "23 5 * * 0"), ("daily scrub", Task.SCRUB, "41 4 * * *"))


def list_schedules(
    of: DatabaseName | None = None, *, after: str = "", limit: int | None = None
) -> list[Schedule]:
    """Those of a database, by name, from behind a name on; without one, of the configured one."""
    server, database = of or database_name()
    chosen = select(Schedule).filter_by(server=server, database=database)
    chosen = chosen.where(Schedule.name > after).order_by(Schedule.name).limit(limit)
    return list(db.session.scalars(chosen))


def get_schedule(schedule_id: str) -> Schedule:
    """The schedule of this id. Raises NotFound."""
    return _found(schedule_id, Schedule.id)


def get_schedule_named(name: str) -> Schedule:
    """The schedule of this name. Raises NotFound."""
    return _found(name, Schedule.name)


@acting
def add_schedule(
    name: str,
    task: Task,
    cron: str,
    *,
    timezone: str = "UTC",
    notes: str = "",
    enabled: bool = True,
    heartbeat_url: str = "",
    created_by: str,
) -> Schedule:
    """Keep a new one; its first time is the next one.

    A monitor elsewhere is told of each run at `heartbeat_url`, which is a
    secret and never shown again.
    Raises InvalidInput, or Conflict if the name is taken or there are too many.
    """
    cron, timezone = checked_times(cron, timezone)
    server, database = database_name()
    schedule = Schedule(
        server=server,
        database=database,
        name=_checked_name(name),
        task=task,
        cron=cron,
        timezone=timezone,
        notes=checked_notes(notes),
        enabled=enabled,
        heartbeat=sealed_url(heartbeat_url) if heartbeat_url else "",
        created_by=created_by[:255],
    )
    reckon(schedule, now())
    try:
        with writing() as session:
            there = select(func.count()).select_from(Schedule)
            if (session.scalar(there.filter_by(server=server, database=database)) or 0) >= (
                MAX_SCHEDULES
            ):
                raise Conflict(f"there are {MAX_SCHEDULES} schedules already")
            session.add(schedule)
    except IntegrityError as error:
        raise _taken(name) from error
    tell(subject=schedule.name)
    logger.info("schedule added name=%r by=%r", schedule.name, created_by)
    return schedule


@acting
def edit_schedule(
    schedule_id: str,
    *,
    name: str | None = None,
    task: Task | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    notes: str | None = None,
    enabled: bool | None = None,
    heartbeat_url: str | None = None,
    by: str,
) -> Schedule:
    """Change what is given; times that passed while it was paused are not caught up.

    Raises NotFound, InvalidInput, or Conflict if the name is taken.
    """
    try:
        with writing():
            schedule = get_schedule(schedule_id)
            before = schedule.cron, schedule.timezone, schedule.enabled
            if name is not None:
                schedule.name = _checked_name(name)
            if cron is not None or timezone is not None:
                schedule.cron, schedule.timezone = checked_times(
                    schedule.cron if cron is None else cron,
                    schedule.timezone if timezone is None else timezone,
                )
            if notes is not None:
                schedule.notes = checked_notes(notes)
            if heartbeat_url is not None:  # empty: no longer
                schedule.heartbeat = sealed_url(heartbeat_url) if heartbeat_url else ""
            schedule.task = task or schedule.task
            schedule.enabled = schedule.enabled if enabled is None else enabled
            if before != (schedule.cron, schedule.timezone, schedule.enabled):
                reckon(schedule, now())
    except IntegrityError as error:
        raise _taken(name or "") from error
    tell(subject=schedule.name)
    logger.info("schedule edited name=%r by=%r", schedule.name, by)
    return schedule


@acting
def remove_schedule(schedule_id: str, *, by: str) -> None:
    """Forget it and its times; the backups that it made stay. Raises NotFound."""
    with writing() as session:
        schedule = get_schedule(schedule_id)
        name = schedule.name
        session.delete(schedule)
    tell(subject=name)
    logger.info("schedule removed name=%r by=%r", name, by)


@acting
def run_now(schedule_id: str, *, by: str) -> Firing:
    """Let a worker do it at its next look, as if it were due; returns what is to be done.

    Raises NotFound, or Conflict if it is due in this very millisecond.
    """
    moment = now()
    try:
        with writing() as session:
            schedule = get_schedule(schedule_id)
            firing = Firing(schedule=schedule, due_at=moment, next_attempt_at=moment)
            firing.told = f"asked for by {by[:255]}"
            session.add(firing)
            name = schedule.name
    except IntegrityError as error:
        raise Conflict("it has been asked for already") from error
    tell(subject=name)
    logger.info("schedule run by hand name=%r by=%r", name, by)
    return firing


def list_firings(schedule_id: str, limit: int = 50) -> list[Firing]:
    """The newest due times of a schedule, and what became of them. Raises NotFound."""
    get_schedule(schedule_id)
    chosen = select(Firing).filter_by(schedule_id=schedule_id)
    return list(db.session.scalars(chosen.order_by(Firing.due_at.desc()).limit(limit)))


def last_firings(of: Iterable[Schedule]) -> dict[str, Firing]:
    """The newest due time of each of these schedules, by the schedule's id."""
    others = aliased(Firing)
    newest = select(func.max(others.due_at)).where(others.schedule_id == Schedule.id)
    chosen = (
        select(Firing)
        .join(Firing.schedule)
        .where(Schedule.id.in_([each.id for each in of]))
        .where(Firing.due_at == newest.scalar_subquery())
        .options(contains_eager(Firing.schedule))
    )
    return {each.schedule_id: each for each in db.session.scalars(chosen)}


def make_first_schedules() -> None:
    """Give a database that is new here a weekly drill and a daily scrub; only once.

    Whoever removes them does not get them again.
    """
    server, database = database_name()
    if db.session.get(SeenDatabase, (server, database)) is not None:
        return
    try:
        with writing() as session:
            session.add(SeenDatabase(server=server, database=database))
            session.flush()
            for name, task, cron in _FIRST:
                add_schedule(name, task, cron, created_by="Backstop")
    except (IntegrityError, Conflict) as error:
        logger.info("first schedules are not made error=%r", str(error))


def reckon(schedule: Schedule, at: datetime) -> None:
    """Set the next time of a schedule, as seen at a moment."""
    schedule.reckoned_at = at
    schedule.next_due_at = (
        next(next_times(schedule.cron, schedule.timezone, at), None) if schedule.enabled else None
    )


def next_times(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """The times after a moment, in UTC, each once and in order."""
    last = after
    for time in CronSim(cron, after.astimezone(ZoneInfo(timezone))):
        moment = time.astimezone(UTC)
        if moment > last:  # two of a missing hour fall on the same moment
            yield (last := moment)


def times_before(cron: str, timezone: str, before: datetime) -> Iterator[datetime]:
    """The times before a moment, in UTC, the latest first."""
    last = before
    for time in CronSim(cron, before.astimezone(ZoneInfo(timezone)), reverse=True):
        moment = time.astimezone(UTC)
        if moment < last:
            yield (last := moment)


def preview(cron: str, timezone: str, number: int = 5) -> tuple[str, list[datetime]]:
    """A schedule in words, and its next times in UTC. Raises InvalidInput."""
    cron, timezone = checked_times(cron, timezone)
    return in_words(cron), list(islice(next_times(cron, timezone, now()), number))


@lru_cache(MAX_SCHEDULES)
def in_words(cron: str) -> str:
    """A cron expression as people say it."""
    return str(CronSim(cron, datetime.now(UTC)).explain())


def checked_times(cron: str, timezone: str) -> tuple[str, str]:
    """Expression and time zone as they are kept. Raises InvalidInput."""
    cron, timezone = " ".join(cron.split()), timezone.strip()
    if len(cron) > MAX_CRON or len(cron.split()) != _FIELDS:
        raise InvalidInput(
            "a cron expression has five fields: minute, hour, day of the month, month, weekday",
            hint="For example: 0 3 * * * is each night at three.",
        )
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInput(
            f"there is no time zone {timezone[:64]!r}",
            hint="Zones are called like Europe/Berlin, America/New_York or UTC.",
        ) from error
    try:
        next(CronSim(cron, datetime.now(zone)))
    except CronSimError as error:
        raise InvalidInput(
            "this is no cron expression",
            detail=f"{error}.",
            hint="For example: 0 3 * * * is each night at three.",
        ) from error
    except StopIteration as error:
        raise InvalidInput("this cron expression has no next time") from error
    return cron, timezone


def _found(wanted: str, column: InstrumentedAttribute[str]) -> Schedule:
    server, database = database_name()
    chosen = select(Schedule).filter_by(server=server, database=database)
    found = db.session.scalar(chosen.where(column == wanted))
    if found is None:
        raise NotFound("no such schedule", hint="flask schedule list shows all.")
    return found


def _taken(name: str) -> Conflict:
    return Conflict(f'there is a schedule "{name.strip()}" already', hint="Choose another name.")


def _checked_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidInput(f"the name must have 1 to {MAX_NAME} printable characters")
    return name
