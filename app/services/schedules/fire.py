"""A due time of a schedule, from its first attempt to what became of it."""

import logging
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
from app.services.alerts import deliveries, heartbeats
from app.services.alerts.deliveries import Message
from app.services.alerts.heartbeats import Beat
from app.services.audit import log as audit
from app.services.backups import service as backups
from app.services.backups.good import get_newest_good
from app.services.backups.manifests import MAX_NOTES
from app.services.proofs.records import was_not_possible
from app.services.restores import service as restores
from app.services.retention import prune

logger = logging.getLogger(__name__)

#: After which a failed attempt is repeated, if its error passes by itself.
BACK_OFF = tuple(timedelta(minutes=each) for each in (1, 5, 15, 60))
#: A clock that is set back further is noticed.
CLOCK = timedelta(minutes=1)

_ACTS = {Task.BACKUP: "backup.create", Task.DRILL: "drill.create", Task.SCRUB: "scrub.run"}
_RECORDED_AS = {
    Outcome.COMPLETED: ActOutcome.DONE,
    Outcome.FAILED: ActOutcome.FAILED,
    Outcome.NOT_POSSIBLE: ActOutcome.REFUSED,
}
_LOST = timedelta(minutes=1)  # after which a job that was chosen and is not there was lost


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
                get_newest_good().filename,
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
        end(firing_id, Outcome.COMPLETED, "", at, subject=job.filename)
        if isinstance(job, DatabaseBackup):
            _let_prune(job.id, firing_id)
    elif not job.is_pending:
        passes, ended = job.error_is_passing, Outcome.FAILED
        if isinstance(job, Restore) and _was_not_possible(job):
            ended = Outcome.NOT_POSSIBLE
        again = job.was_interrupted
        _fail(firing_id, job.error_message, at, passes=passes, ended=ended, at_once=again)
    db.session.commit()


def _let_prune(backup_id: str, firing_id: str) -> None:
    try:
        prune.prune_after(backup_id, firing_id)
    except FAILURES as error:  # the next backup lets it be done too
        logger.warning("not pruned backup=%s error=%r", backup_id, str(error))


def _was_not_possible(drill: Restore) -> bool:
    asked = select(Restore.id).where(Restore.id == drill.id, was_not_possible())
    return db.session.scalar(asked) is not None


def _fail(
    firing_id: str,
    told: str,
    at: datetime,
    *,
    passes: bool,
    ended: Outcome = Outcome.FAILED,
    at_once: bool = False,
) -> None:
    """Wait for another attempt, if there is one left and it makes sense; else give up.

    The second one can be made `at_once`; a job that ends its worker each time would
    end all of them if the others were too.
    """
    firing = db.session.get_one(Firing, firing_id)
    attempts, name = firing.attempts, firing.schedule.name
    db.session.commit()
    if not passes or attempts > len(BACK_OFF):
        end(firing_id, ended, told, at)
        return
    wait = timedelta(0) if at_once and attempts == 1 else BACK_OFF[attempts - 1]
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


def end(firing_id: str, outcome: Outcome, told: str, at: datetime, *, subject: str = "") -> None:
    """Write down how a due time ended, and tell who wants to know."""
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
        name, action = firing.schedule.name, _ACTS[firing.schedule.task]
        _tell_end(session, firing, told, at)
    with errors_logged("recording a schedule"):  # it is done, recorded or not
        audit.record_unattended(
            action, name, subject=subject, outcome=_RECORDED_AS[outcome], detail=told
        )
    log = logger.info if outcome is Outcome.COMPLETED else logger.error
    log("schedule ended name=%r outcome=%s told=%r", name, outcome.value, told)


def _tell_end(session: Session, firing: Firing, told: str, at: datetime) -> None:
    """Tell the monitor and, of what was no success, the notifiers.

    Failed backups have an alarm of their own. That the same is not possible
    again is no news.
    """
    schedule, outcome = firing.schedule, firing.outcome
    if outcome is Outcome.COMPLETED:
        beat(session, firing, Beat.SUCCESS, at, told)
        return
    is_failed = outcome is Outcome.FAILED
    beat(session, firing, Beat.FAIL, at, told if is_failed else f"{outcome.value}: {told}")
    if is_failed and schedule.task is not Task.BACKUP:
        tell(session, schedule, key=f"gave-up:{firing.id}", what="failed", body=told, at=at)
    elif outcome is Outcome.NOT_POSSIBLE and _outcome_before(firing) is not outcome:
        key, what = f"not-possible:{firing.id}", "was not possible"
        fact = Fact.NOT_POSSIBLE
        tell(session, schedule, key=key, what=what, body=told, at=at, fact=fact)


def _outcome_before(firing: Firing) -> Outcome | None:
    before = select(Firing.outcome).where(
        Firing.schedule_id == firing.schedule_id, Firing.due_at < firing.due_at
    )
    return db.session.scalar(before.order_by(Firing.due_at.desc()).limit(1))


# Tell


def tell(
    session: Session,
    schedule: Schedule,
    *,
    key: str,
    what: str,
    body: str,
    at: datetime,
    fact: Fact = Fact.BACKUP_MISSED,
) -> None:
    message = Message(
        key=key,
        fact=fact,
        level="info" if fact is Fact.NOT_POSSIBLE else "warning",
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
