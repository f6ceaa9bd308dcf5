"""Schedules: what is done when, as admins add, edit and remove it."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased, contains_eager

from app.errors import Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.models import Database, Firing, Schedule, State, Task
from app.models.types import now
from app.services.alerts.heartbeats import sealed_url
from app.services.audit.acting import acting, tell
from app.services.backups.service import checked_notes
from app.services.databases.lookup import default_database, list_databases, state_of
from app.services.schedules import targets
from app.services.schedules.targets import Consent
from app.services.schedules.times import checked_times, next_times

logger = logging.getLogger(__name__)

MAX_SCHEDULES = 1_000  # of one database
MAX_NAME = 100  # characters

#: Made once for a database: only a drill shows what a backup is worth.
_FIRST = (("weekly drill", Task.DRILL, "23 5 * * 0"), ("daily scrub", Task.SCRUB, "41 4 * * *"))


def list_schedules(
    of: Database | None = None, *, after: str = "", limit: int | None = None
) -> list[Schedule]:
    """The schedules of a database, the default one if None, by name, `after` a name."""
    chosen = select(Schedule).filter_by(database_id=(of or default_database()).id)
    chosen = chosen.where(Schedule.name > after).order_by(Schedule.name).limit(limit)
    return list(db.session.scalars(chosen))


def get_schedule(schedule_id: str) -> Schedule:
    """The schedule of this id. Raises NotFound."""
    return _existing(db.session.get(Schedule, schedule_id))


def get_schedule_named(name: str, of: Database | None = None) -> Schedule:
    """The schedule of a database with this name. Raises NotFound."""
    chosen = select(Schedule).filter_by(name=name, database_id=(of or default_database()).id)
    return _existing(db.session.scalar(chosen))


@dataclass(frozen=True)
class NewSchedule:
    """A schedule to be added."""

    name: str
    task: Task
    cron: str
    timezone: str = "UTC"
    notes: str = ""
    enabled: bool = True
    heartbeat_url: str = ""  # of a monitor that hears of each run: a secret, never shown again
    target: str = ""  # the database that a restore makes anew
    sql: str = ""  # to run in that before it takes the place of the one before
    keep_last: int = 1  # databases that were replaced


@dataclass(frozen=True)
class ScheduleChanges:
    """The new values of a schedule; None leaves the old one."""

    name: str | None = None
    task: Task | None = None
    cron: str | None = None
    timezone: str | None = None
    notes: str | None = None
    enabled: bool | None = None
    heartbeat_url: str | None = None  # empty: no monitor any more
    target: str | None = None
    sql: str | None = None
    keep_last: int | None = None

    @property
    def is_about_restores(self) -> bool:
        """Whether it changes what a scheduled restore does."""
        changed = (self.task, self.target, self.sql, self.keep_last)
        return any(value is not None for value in changed)


@acting
def add_schedule(
    new: NewSchedule,
    *,
    of: Database | None = None,
    created_by: str,
    consent: Consent | None = None,
) -> Schedule:
    """Add a schedule of a database, whose first time is the next one.

    Without `consent`, nobody looks whether the target of a restore exists, and the first run
    refuses one that does. Raises InvalidInput, or Conflict if the name is taken or there are
    too many, and as `find_replaceable`.
    """
    database = of or default_database()
    database_id = database.id
    schedule = Schedule(database_id=database_id, created_by=created_by[:255])
    schedule.name, schedule.task, schedule.enabled = _checked_name(new.name), new.task, new.enabled
    schedule.cron, schedule.timezone = checked_times(new.cron, new.timezone)
    schedule.notes, schedule.heartbeat = checked_notes(new.notes), _sealed(new.heartbeat_url)
    schedule.target, schedule.sql, schedule.keep_last = new.target, new.sql, new.keep_last
    targets.check(schedule, database)
    if consent is not None and schedule.task is Task.RESTORE:
        schedule.replaceable = targets.find_replaceable(schedule.target, database, consent)
    reckon(schedule, now())
    try:
        with writing() as session:
            ours = select(func.count()).select_from(Schedule).filter_by(database_id=database_id)
            if (session.scalar(ours) or 0) >= MAX_SCHEDULES:
                raise Conflict(f"the limit of {MAX_SCHEDULES} schedules is reached")
            session.add(schedule)
    except IntegrityError as error:
        raise _taken(new.name) from error
    tell(subject=schedule.name, detail=targets.in_words(schedule))
    logger.info("schedule added name=%r by=%r", schedule.name, created_by)
    return schedule


@acting
def edit_schedule(
    schedule_id: str, changes: ScheduleChanges, *, by: str, consent: Consent | None = None
) -> Schedule:
    """Change a schedule; times that passed while it was paused are not caught up.

    Raises NotFound, InvalidInput, or Conflict if the name is taken; `consent` is as for
    `add_schedule`.
    """
    replaceable = _find_replaceable(schedule_id, changes, consent) if consent else None
    try:
        with writing() as session, session.no_autoflush:
            schedule = get_schedule(schedule_id)
            old_times = schedule.cron, schedule.timezone, schedule.enabled
            old_target = schedule.target
            _apply(changes, schedule)
            if changes.is_about_restores:
                targets.check(schedule, schedule.database)
            if replaceable is not None or schedule.target != old_target:
                schedule.replaceable = replaceable
            if old_times != (schedule.cron, schedule.timezone, schedule.enabled):
                reckon(schedule, now())
    except IntegrityError as error:
        raise _taken(changes.name or "") from error
    tell(subject=schedule.name, detail=targets.in_words(schedule))
    logger.info("schedule edited name=%r by=%r", schedule.name, by)
    return schedule


@acting
def remove_schedule(schedule_id: str, *, by: str) -> None:
    """Delete it and the record of its runs; its backups stay. Raises NotFound."""
    with writing() as session:
        schedule = get_schedule(schedule_id)
        name = schedule.name
        session.delete(schedule)
    tell(subject=name)
    logger.info("schedule removed name=%r by=%r", name, by)


@acting
def run_now(schedule_id: str, *, by: str) -> Firing:
    """Let a worker run it within seconds, as if it were due; returns the new due time.

    Raises NotFound, or Conflict if its database is paused or retired, or if it is due in
    this very millisecond.
    """
    moment = now()
    try:
        with writing() as session:
            schedule = get_schedule(schedule_id)
            _refuse_inactive(schedule.database)
            firing = Firing(schedule=schedule, due_at=moment, next_attempt_at=moment)
            firing.told = f"requested by {by[:255]}"
            session.add(firing)
            name = schedule.name
    except IntegrityError as error:
        raise Conflict("it is already due now") from error
    tell(subject=name)
    logger.info("schedule run by hand name=%r by=%r", name, by)
    return firing


def _refuse_inactive(database: Database) -> None:
    if (state := state_of(database)) is not State.ACTIVE:
        raise Conflict(
            f"{database.name} is {state.value}, so no schedule of it runs",
            hint=f"Back it up again: flask database resume {database.name}.",
        )


def list_firings(schedule_id: str, limit: int = 50) -> list[Firing]:
    """The newest due times of a schedule, with their outcomes. Raises NotFound."""
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
        .where(Schedule.id.in_([schedule.id for schedule in of]))
        .where(Firing.due_at == newest.scalar_subquery())
        .options(contains_eager(Firing.schedule))
    )
    return {firing.schedule_id: firing for firing in db.session.scalars(chosen)}


def make_first_schedules() -> None:
    """Give each new database a weekly drill and a daily scrub, only once.

    If they are deleted, they are not made again.
    """
    with suppress(InvalidInput):  # there is no default
        default_database()  # it has a row from now on
    for database in list_databases():
        if database.seeded_at is None:
            _make_first(database)


def _make_first(database: Database) -> None:
    first = update(Database).where(Database.id == database.id, Database.seeded_at.is_(None))
    try:
        with writing() as session:
            if not session.execute(first.values(seeded_at=now())).rowcount:  # type: ignore[attr-defined]
                return
            for name, task, cron in _FIRST:
                add_schedule(NewSchedule(name, task, cron), of=database, created_by="Backstop")
    except (IntegrityError, Conflict) as error:
        logger.info("first schedules are not made error=%r", str(error))


def reckon(schedule: Schedule, at: datetime) -> None:
    """Set the next time of a schedule after a moment."""
    schedule.reckoned_at = at
    schedule.next_due_at = (
        next(next_times(schedule.cron, schedule.timezone, at), None) if schedule.enabled else None
    )


def _find_replaceable(schedule_id: str, changes: ScheduleChanges, consent: Consent) -> int | None:
    """The OID of a database that a changed schedule may replace, asked before rows are locked."""
    schedule = get_schedule(schedule_id)
    if (changes.task or schedule.task) is not Task.RESTORE:
        return None
    target = schedule.target if changes.target is None else changes.target
    return targets.find_replaceable(target, schedule.database, consent, schedule)


def _apply(changes: ScheduleChanges, schedule: Schedule) -> None:
    """Raises InvalidInput."""
    if changes.name is not None:
        schedule.name = _checked_name(changes.name)
    if changes.cron is not None or changes.timezone is not None:
        schedule.cron, schedule.timezone = checked_times(
            schedule.cron if changes.cron is None else changes.cron,
            schedule.timezone if changes.timezone is None else changes.timezone,
        )
    if changes.notes is not None:
        schedule.notes = checked_notes(changes.notes)
    if changes.heartbeat_url is not None:
        schedule.heartbeat = _sealed(changes.heartbeat_url)
    for name in ("task", "enabled", "target", "sql", "keep_last"):
        if (value := getattr(changes, name)) is not None:
            setattr(schedule, name, value)


def _sealed(heartbeat_url: str) -> str:
    return sealed_url(heartbeat_url) if heartbeat_url else ""


def _existing(schedule: Schedule | None) -> Schedule:
    if schedule is None:
        raise NotFound("no such schedule", hint="flask schedule list shows all.")
    return schedule


def _taken(name: str) -> Conflict:
    return Conflict(f'there is a schedule "{name.strip()}" already', hint="Choose another name.")


def _checked_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidInput(f"the name must have 1 to {MAX_NAME} printable characters")
    return name
