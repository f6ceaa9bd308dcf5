"""A due time of a schedule, from its first attempt to its outcome."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from cuid2 import create_id
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.errors import AppError
from app.extensions import db, writing
from app.logs import errors_logged
from app.models import (
    ActOutcome,
    AnyJob,
    DatabaseBackup,
    Fact,
    Firing,
    Kind,
    Outcome,
    Restore,
    Schedule,
    Task,
    Trigger,
)
from app.models.types import moment_text
from app.queue import FAILURES
from app.services.alerts import deliveries
from app.services.alerts.deliveries import Message
from app.services.alerts.heartbeats import Beat, Heartbeat, queue_heartbeat
from app.services.audit import log as audit
from app.services.backups import service as backups
from app.services.backups.good import get_newest_good
from app.services.backups.manifests import MAX_NOTES
from app.services.proofs.records import was_not_possible
from app.services.restores import service as restores
from app.services.restores.refresh import expire_kept
from app.services.restores.request import RestoreRequest
from app.services.restores.source import get_source
from app.services.retention import prune

logger = logging.getLogger(__name__)

#: Pauses before a failed attempt is repeated, if its error may pass.
BACK_OFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60))
#: A clock that is set back by more is noticed.
CLOCK = timedelta(minutes=1)

_AUDIT_ACTIONS = {
    Task.BACKUP: "backup.create",
    Task.DRILL: "drill.create",
    Task.SCRUB: "scrub.run",
    Task.RESTORE: "restore.create",
}
_AUDIT_OUTCOMES = {
    Outcome.COMPLETED: ActOutcome.DONE,
    Outcome.FAILED: ActOutcome.FAILED,
    Outcome.NOT_POSSIBLE: ActOutcome.REFUSED,
}
_LOST = timedelta(minutes=1)  # after which a job without a row counts as lost


def attempt(firing_id: str, at: datetime) -> None:
    """Queue the job of a due time; its id is recorded first, so it is queued only once."""
    job_id = create_id()
    take = (
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
        if session.execute(take).rowcount != 1:  # type: ignore[attr-defined]
            return
        firing = session.get_one(Firing, firing_id, populate_existing=True)
        if firing.attempts == 1:
            _beat(session, firing, Beat.START, at)
    firing = db.session.get_one(Firing, firing_id)
    schedule, due = firing.schedule, firing.due_at
    try:
        if schedule.task is Task.BACKUP:
            backups.queue_backup(
                schedule.database,
                trigger=Trigger.SCHEDULE,
                created_by=schedule.name,
                notes=notes_of(schedule, due),
                backup_id=job_id,
            )
        else:
            restores.queue_restore(_restore_of(schedule), restore_id=job_id)
    except AppError as error:
        _fail(firing_id, _Failure(error.message, passes=error.is_passing), at)


def _restore_of(schedule: Schedule) -> RestoreRequest:
    """The restore of the newest good backup. Raises NotFound if there is none."""
    filename = get_newest_good(schedule.database).filename
    if schedule.task is Task.DRILL:
        return RestoreRequest(get_source(filename), Kind.DRILL, Trigger.SCHEDULE, schedule.name)
    return RestoreRequest(
        get_source(filename, schedule.database.name),
        Kind.REFRESH,
        Trigger.SCHEDULE,
        schedule.name,
        into=schedule.target,
        schedule_id=schedule.id,
    )


def notes_of(schedule: Schedule, due: datetime) -> str:
    """The notes of a scheduled backup, with {schedule} and {due} filled in."""
    filled = schedule.notes.replace("{due}", moment_text(due) or "")
    return filled.replace("{schedule}", schedule.name)[:MAX_NOTES]


def settle(firing_id: str, at: datetime) -> None:
    """Record the outcome of a queued job, once it has ended."""
    firing = db.session.get(Firing, firing_id, populate_existing=True)
    if firing is None or firing.outcome is not Outcome.RUNNING:
        return
    if firing.schedule.task is Task.SCRUB:
        return
    model: AnyJob = DatabaseBackup if firing.schedule.task is Task.BACKUP else Restore
    job = cast("DatabaseBackup | Restore | None", db.session.get(model, firing.job_id))
    if job is None:
        begun_at = firing.next_attempt_at or at
        if begun_at + _LOST < at or begun_at > at + CLOCK:
            _fail(firing_id, _Failure("its job was lost before it began", passes=True), at)
    elif job.is_completed:
        end(firing_id, Outcome.COMPLETED, "", at, subject=job.filename)
        if isinstance(job, DatabaseBackup):
            _queue_prune(job.id, firing_id)
        elif job.schedule_id is not None:
            expire_kept(job.schedule_id)
    elif not job.is_pending:
        _fail(firing_id, _failure_of(job), at)
    db.session.commit()


def _queue_prune(backup_id: str, firing_id: str) -> None:
    try:
        prune.prune_after(backup_id, firing_id)
    except FAILURES as error:  # the next backup prunes too
        logger.warning("not pruned backup=%s error=%r", backup_id, str(error))


@dataclass(frozen=True)
class _Failure:
    """Why an attempt failed, and whether another one makes sense."""

    reason: str
    passes: bool
    outcome: Outcome = Outcome.FAILED  # if there is no other attempt
    repeats_at_once: bool = False


def _failure_of(job: DatabaseBackup | Restore) -> _Failure:
    not_possible = select(Restore.id).where(Restore.id == job.id, was_not_possible())
    is_not_possible = isinstance(job, Restore) and db.session.scalar(not_possible) is not None
    outcome = Outcome.NOT_POSSIBLE if is_not_possible else Outcome.FAILED
    return _Failure(job.error_message, job.error_is_passing, outcome, job.was_interrupted)


def _fail(firing_id: str, failure: _Failure, at: datetime) -> None:
    """Schedule another attempt, if there is one left and it makes sense; otherwise give up.

    Only the second attempt is ever made at once: a job that kills its worker each time
    would kill them all.
    """
    firing = db.session.get_one(Firing, firing_id)
    attempts, name, reason = firing.attempts, firing.schedule.name, failure.reason
    db.session.commit()
    if not failure.passes or attempts > len(BACK_OFF):
        end(firing_id, failure.outcome, reason, at)
        return
    is_at_once = failure.repeats_at_once and attempts == 1
    wait = timedelta(0) if is_at_once else BACK_OFF[attempts - 1]
    again = (
        update(Firing)
        .where(Firing.id == firing_id, Firing.outcome == Outcome.RUNNING)
        .values(
            outcome=Outcome.WAITING,
            next_attempt_at=at + wait,
            told=f"attempt {attempts} of {len(BACK_OFF) + 1}: {reason}",
        )
    )
    with writing() as session:
        session.execute(again)
    logger.warning("schedule waits name=%r attempt=%d error=%r", name, attempts, reason)


def end(firing_id: str, outcome: Outcome, reason: str, at: datetime, *, subject: str = "") -> None:
    """Record how a due time ended, and queue the messages about it."""
    values = {"outcome": outcome, "finished_at": at, "next_attempt_at": None}
    ended = (
        update(Firing)
        .where(Firing.id == firing_id, Firing.outcome == Outcome.RUNNING)
        .values(values | ({"told": reason} if reason else {}))
    )
    with writing() as session:
        if session.execute(ended).rowcount != 1:  # type: ignore[attr-defined]
            return
        firing = session.get_one(Firing, firing_id, populate_existing=True)
        name, action = firing.schedule.name, _AUDIT_ACTIONS[firing.schedule.task]
        _queue_messages(session, firing, reason, at)
    with errors_logged("recording a schedule"):  # it is done, recorded or not
        audit.record_unattended(
            action, name, subject=subject, outcome=_AUDIT_OUTCOMES[outcome], detail=reason
        )
    log = logger.info if outcome is Outcome.COMPLETED else logger.error
    log("schedule ended name=%r outcome=%s told=%r", name, outcome.value, reason)


def _queue_messages(session: Session, firing: Firing, reason: str, at: datetime) -> None:
    """Inform the monitor and, unless it was a success, the notifiers.

    Failed backups have an alarm of their own. That something is still not possible
    is not news.
    """
    schedule, outcome = firing.schedule, firing.outcome
    if outcome is Outcome.COMPLETED:
        _beat(session, firing, Beat.SUCCESS, at, reason)
        return
    is_failed = outcome is Outcome.FAILED
    _beat(session, firing, Beat.FAIL, at, reason if is_failed else f"{outcome.value}: {reason}")
    if is_failed and schedule.task is not Task.BACKUP:
        message = message_of(schedule, "failed", reason, key=f"gave-up:{firing.id}")
        deliveries.queue(session, [message], at)
    elif outcome is Outcome.NOT_POSSIBLE and _previous_outcome(firing) is not outcome:
        key, fact = f"not-possible:{firing.id}", Fact.NOT_POSSIBLE
        message = message_of(schedule, "was not possible", reason, key=key, fact=fact)
        deliveries.queue(session, [message], at)


def _previous_outcome(firing: Firing) -> Outcome | None:
    earlier = select(Firing.outcome).where(
        Firing.schedule_id == firing.schedule_id, Firing.due_at < firing.due_at
    )
    return db.session.scalar(earlier.order_by(Firing.due_at.desc()).limit(1))


# Messages


def message_of(
    schedule: Schedule, what: str, body: str, *, key: str, fact: Fact = Fact.BACKUP_MISSED
) -> Message:
    """A message for the notifiers that something has happened to a schedule."""
    return Message(
        key=key,
        fact=fact,
        level="info" if fact is Fact.NOT_POSSIBLE else "warning",
        title=f"Schedule {schedule.name} {what}",
        body=body,
        server=schedule.database.server,
        database=schedule.database.dbname,
    )


def _beat(session: Session, firing: Firing, beat: Beat, at: datetime, text: str = "") -> None:
    """Queue a heartbeat for the schedule's monitor, if it has one."""
    schedule, key = firing.schedule, f"{firing.id}:{beat.name}"
    if schedule.heartbeat:
        heartbeat = Heartbeat(schedule.id, schedule.heartbeat, beat, key, text)
        queue_heartbeat(session, heartbeat, at)
