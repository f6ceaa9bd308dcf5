"""A due time of a schedule, from its first attempt to what became of it."""

import logging
from datetime import datetime, timedelta
from typing import cast

from cuid2 import create_id
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.errors import AppError, NotFound
from app.extensions import db, writing
from app.models import (
    AnyJob,
    DatabaseBackup,
    Fact,
    Firing,
    Kind,
    Level,
    Outcome,
    Proof,
    Restore,
    Result,
    Schedule,
    Status,
    Task,
    Trigger,
)
from app.models.types import now
from app.services import audit, backups, claims, deliveries, heartbeats, pruning, restores
from app.services.databases import database_name
from app.services.deliveries import Message
from app.services.heartbeats import Beat
from app.services.manifests import MAX_NOTES, moment_text
from app.services.reconcile import tolerating
from app.services.scrubs import scrub

logger = logging.getLogger(__name__)

#: After which a failed attempt is repeated, if its error passes by itself.
BACK_OFF = tuple(timedelta(minutes=each) for each in (1, 5, 15, 60))
#: A clock that is set back further is noticed.
CLOCK = timedelta(minutes=1)

_ACTS = {Task.BACKUP: "backup.create", Task.DRILL: "drill.create", Task.SCRUB: "scrub.run"}
_LOST = timedelta(minutes=1)  # after which a job that was chosen and is not there was lost
_SCRUBBING = timedelta(minutes=30)  # in which a scrub that lives tells that it does


def attempt(firing_id: str, at: datetime) -> None:
    """Queue the job of a due time; its id is written down before, so it is queued once."""
    job_id = create_id()
    taken = (
        update(Firing)
        .where(Firing.id == firing_id, Firing.outcome == Outcome.WAITING)
        .values(
            outcome=Outcome.RUNNING,
            attempts=Firing.attempts + 1,
            job_id=job_id,
            next_attempt_at=at,
        )
    )
    with writing() as session:
        if session.execute(taken).rowcount != 1:  # type: ignore[attr-defined]
            return
        firing = session.get_one(Firing, firing_id, populate_existing=True)
        if firing.attempts == 1:
            beat(session, firing, Beat.START, at)
    firing = db.session.get_one(Firing, firing_id)
    schedule, due = firing.schedule, firing.due_at
    try:
        if schedule.task is Task.BACKUP:
            backups.queue_backup(
                trigger=Trigger.SCHEDULE,
                created_by=schedule.name,
                notes=notes_of(schedule, due),
                backup_id=job_id,
            )
        else:
            restores.queue_restore(
                _newest_good(),
                Kind.DRILL,
                trigger=Trigger.SCHEDULE,
                created_by=schedule.name,
                restore_id=job_id,
            )
    except AppError as error:
        _fail(firing_id, error.message, at, passes=error.is_passing)


def notes_of(schedule: Schedule, due: datetime) -> str:
    """The notes of a scheduled backup: {schedule} and {due} are filled in, nothing else."""
    filled = schedule.notes.replace("{due}", moment_text(due) or "")
    return filled.replace("{schedule}", schedule.name)[:MAX_NOTES]


def _newest_good() -> str:
    """The backup that a drill tries: whole, ours, and nothing speaks against it."""
    server, database = database_name()
    doubted = select(Proof.backup_id).where(Proof.result == Result.FAILED)
    read = select(Proof.backup_id).where(Proof.result == Result.PASSED, Proof.level >= Level.READ)
    newest = (
        select(DatabaseBackup.filename)
        .where(
            DatabaseBackup.server == server,
            DatabaseBackup.database == database,
            DatabaseBackup.status == Status.COMPLETED,
            DatabaseBackup.delete_requested_at.is_(None),
            DatabaseBackup.foreign.is_(False),
            DatabaseBackup.id.in_(read),
            DatabaseBackup.id.not_in(doubted),
        )
        .order_by(DatabaseBackup.created_at.desc())
        .limit(1)
    )
    if (found := db.session.scalar(newest)) is None:
        raise NotFound("there is no good backup to drill")
    return found


def settle(firing_id: str, at: datetime) -> None:
    """Write down what became of a job that was queued."""
    firing = db.session.get(Firing, firing_id, populate_existing=True)
    if firing is None or firing.outcome is not Outcome.RUNNING:
        return
    if firing.schedule.task is Task.SCRUB:
        return
    model: AnyJob = DatabaseBackup if firing.schedule.task is Task.BACKUP else Restore
    job = cast("DatabaseBackup | Restore | None", db.session.get(model, firing.job_id))
    if job is None:
        begun = firing.next_attempt_at or at
        if begun + _LOST < at or begun > at + CLOCK:
            _fail(firing_id, "its job was lost before it began", at, passes=True)
    elif job.is_completed:
        _end(firing_id, Outcome.COMPLETED, "", at, subject=job.filename)
        if isinstance(job, DatabaseBackup):
            pruning.prune_after(job)
    elif not job.is_pending:
        _fail(firing_id, job.error_message, at, passes=job.error_is_passing)
    db.session.commit()


def _fail(firing_id: str, told: str, at: datetime, *, passes: bool) -> None:
    """Wait for another attempt, if there is one left and it makes sense; else give up."""
    firing = db.session.get_one(Firing, firing_id)
    attempts, name = firing.attempts, firing.schedule.name
    db.session.commit()
    if not passes or attempts > len(BACK_OFF):
        _end(firing_id, Outcome.FAILED, told, at)
        return
    wait = BACK_OFF[attempts - 1]
    again = (
        update(Firing)
        .where(Firing.id == firing_id, Firing.outcome == Outcome.RUNNING)
        .values(
            outcome=Outcome.WAITING,
            next_attempt_at=at + wait,
            told=f"attempt {attempts} of {len(BACK_OFF) + 1}: {told}",
        )
    )
    with writing() as session:
        session.execute(again)
    logger.warning("schedule waits name=%r attempt=%d error=%r", name, attempts, told)


def _end(firing_id: str, outcome: Outcome, told: str, at: datetime, *, subject: str = "") -> None:
    values = {"outcome": outcome, "finished_at": at, "next_attempt_at": None}
    ended = (
        update(Firing)
        .where(Firing.id == firing_id, Firing.outcome == Outcome.RUNNING)
        .values(values | ({"told": told} if told else {}))
    )
    with writing() as session:
        if session.execute(ended).rowcount != 1:  # type: ignore[attr-defined]
            return
        firing = session.get_one(Firing, firing_id, populate_existing=True)
        name, has_failed = firing.schedule.name, outcome is Outcome.FAILED
        action = _ACTS[firing.schedule.task]
        beat(session, firing, Beat.FAIL if has_failed else Beat.SUCCESS, at, told)
        if has_failed and firing.schedule.task is not Task.BACKUP:
            key = f"gave-up:{firing.id}"
            tell(session, firing.schedule, key=key, what="failed", body=told, at=at)
    log = logger.error if outcome is Outcome.FAILED else logger.info
    with tolerating():  # it is done, whether it is recorded or not
        audit.record_unattended(action, name, subject=subject, failed=has_failed, detail=told)
    log("schedule ended name=%r outcome=%s told=%r", name, outcome.value, told)


# Scrub


def scrub_due(at: datetime | None = None) -> None:
    """Do the scrubs that are due, here and now: each dump whose time has come is read.

    Beside backups, in a thread of its own. One whose process died is taken up
    again.
    """
    at = at or now()
    for firing_id in _scrubs_due(at):
        if not _take_scrub(firing_id, at):
            continue
        read = 0
        while not claims.is_leaving() and scrub():
            read += 1
            _take_scrub(firing_id, now() + 2 * _SCRUBBING)
        if not claims.is_leaving():
            _end(firing_id, Outcome.COMPLETED, f"dumps read: {read}", now())


def _scrubs_due(at: datetime) -> list[str]:
    server, database = database_name()
    due = (
        select(Firing.id)
        .join(Schedule)
        .where(
            Schedule.server == server,
            Schedule.database == database,
            Schedule.task == Task.SCRUB,
            Firing.outcome.in_([Outcome.WAITING, Outcome.RUNNING]),
            Firing.next_attempt_at <= at,
        )
    )
    found = list(db.session.scalars(due))
    db.session.commit()
    return found


def _take_scrub(firing_id: str, until: datetime) -> bool:
    """Say that we do it, for the next half hour; not if somebody does it beyond `until`."""
    taken = (
        update(Firing)
        .where(
            Firing.id == firing_id,
            Firing.outcome.in_([Outcome.WAITING, Outcome.RUNNING]),
            Firing.next_attempt_at <= until,
        )
        .values(outcome=Outcome.RUNNING, next_attempt_at=now() + _SCRUBBING)
    )
    with writing() as session:
        return bool(session.execute(taken).rowcount)  # type: ignore[attr-defined]


# Tell


def tell(
    session: Session, schedule: Schedule, *, key: str, what: str, body: str, at: datetime
) -> None:
    message = Message(
        key=key,
        fact=Fact.BACKUP_MISSED,
        level="warning",
        title=f"Schedule {schedule.name} {what}",
        body=body,
        server=schedule.server,
        database=schedule.database,
    )
    deliveries.queue(session, message, at)


def beat(session: Session, firing: Firing, beat: Beat, at: datetime, text: str = "") -> None:
    """Tell the schedule's monitor, if it has one."""
    schedule = firing.schedule
    if schedule.heartbeat:
        key = f"{firing.id}:{beat.name}"
        heartbeats.queue_beat(
            session, schedule.id, schedule.heartbeat, beat, key=key, at=at, text=text
        )
