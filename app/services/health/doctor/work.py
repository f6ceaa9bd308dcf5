"""Queue and workers: will a backup that is asked for be made?"""

from datetime import timedelta

from humanize import naturaltime
from sqlalchemy import select

from app.extensions import db
from app.models import DatabaseBackup, Restore, Status, Trigger
from app.models.types import moment_text, now
from app.queue import FAILURES, count_waiting
from app.services.backups.queue import list_unclaimed
from app.services.health.doctor.findings import Finding, discreet, ok, problem, warning
from app.services.jobs.workers import is_silent, list_workers
from app.services.schedules.listing import find_next_backup

_TIDIED_WITHIN = timedelta(minutes=5)
_TOLD = 10  # names

_START = "Start one with flask worker, or everything with flask panel."


def look_at_queue() -> Finding:
    """Whether it can be reached."""
    try:
        waiting = count_waiting()
    except FAILURES as error:
        return problem(
            "queue",
            f"cannot be used: {discreet(str(error))}",
            "Check BACKSTOP_QUEUE_URL; until then backups wait for a worker's look each 30 s.",
        )
    return ok("queue", f"can be used; tasks that wait: {waiting}")


def look_for_schedule() -> Finding:
    """Whether a backup will be made by itself."""
    due = find_next_backup()
    if due is not None:
        return ok("schedule", f"the next backup is due at {moment_text(due)}")
    scheduled = select(DatabaseBackup.id).filter_by(
        status=Status.COMPLETED, trigger=Trigger.SCHEDULE
    )
    if db.session.scalar(scheduled.limit(1)) is None:
        return ok("schedule", "no backup is scheduled, and none ever was")
    return warning(
        "schedule",
        "backups used to be scheduled, and none is scheduled now",
        "A rebuilt catalogue has no schedules, retention or notifiers: set them up again.",
    )


def look_for_workers() -> Finding:
    """Whether there is one that lives."""
    workers = list_workers()
    if not workers:
        return _no_worker()
    heard = f"heard of {naturaltime(workers[0].seen_at, when=now())}"
    silent = [worker for worker in workers if is_silent(worker)]
    if len(silent) == len(workers):
        return problem("worker", f"silent, last {heard}", f"It may hang: end it. {_START}")
    if silent:
        return warning(
            "worker",
            f"{len(silent)} of {len(workers)} workers are silent",
            "They may hang, or their machines may be down; the other workers do their work.",
        )
    return ok("worker", f"running workers: {len(workers)}, last {heard}")


def _no_worker() -> Finding:
    waiting = list_unclaimed(older_than=timedelta(0))
    if waiting:
        return problem("worker", f"none runs, and {waiting[0].filename} waits for one", _START)
    return warning(
        "worker",
        "none runs",
        f"{_START} flask backup create works without one; page and API do not.",
    )


def look_for_leftovers() -> Finding:
    """Whether databases and roles of restores that are over are still on the server."""
    over = select(Restore).where(
        Restore.status != Status.PENDING,
        Restore.tidied_at.is_(None),
        Restore.finished_at < now() - _TIDIED_WITHIN,
    )
    left = [row.working for row in db.session.scalars(over.order_by(Restore.created_at))]
    if left:
        return warning(
            "leftovers",
            f"left on the server by restores that are over: {', '.join(left[:_TOLD])}",
            "They are a database and a role of that name. A worker tries again each 30 s to drop"
            " them; its log tells why it cannot.",
        )
    return ok("leftovers", "no restore has left a database or a role on the server")
