"""Backups that wait or run: one per database, and who is in whose way."""

import logging
from datetime import timedelta

from cuid2 import create_id
from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.config import settings
from app.errors import Conflict
from app.extensions import db, writing
from app.models import DatabaseBackup, Status, Trigger
from app.models.backup import filename_of
from app.models.types import moment_text, now
from app.services.audit.acting import tell
from app.services.databases.configured import DatabaseName, database_name
from app.services.jobs.settling import settle_dead_jobs

logger = logging.getLogger(__name__)

_FORGOTTEN = timedelta(hours=1)


#: What the server of a dump is called that was made elsewhere.
FOREIGN = "elsewhere"


def insert_pending(
    trigger: Trigger,
    created_by: str,
    notes: str,
    *,
    backup_id: str = "",
    upload: str = "",
    database: str = "",
) -> DatabaseBackup:
    """A new PENDING row of the configured database, or of a `database` that was uploaded.

    Its id is a new one where none was chosen before. The unique index says
    whether another one is in the way: raises Conflict, which names it.
    """
    name = DatabaseName(FOREIGN, database) if upload else database_name()
    if _find_pending(name) is not None:
        settle_dead_jobs()  # what is in the way may be of a runner that is gone
    moment = now()
    for _ in range(1000):
        backup = DatabaseBackup(
            id=upload or backup_id or create_id(),
            foreign=bool(upload),
            filename=filename_of(moment),
            created_at=moment,
            server=name.server,
            database=name.database,
            trigger=trigger,
            created_by=created_by[:255],
            notes=notes,
        )
        try:
            with writing() as session:
                session.add(backup)
                session.flush()  # who is in the way tells more than how many there are
                _refuse_too_many(session)
        except IntegrityError as error:
            pending = _find_pending(name)
            if pending is not None:
                raise _in_the_way(pending) from error
            moment += timedelta(milliseconds=1)  # two within one millisecond
        else:
            tell(subject=backup.filename)
            logger.info("backup queued filename=%s trigger=%s", backup.filename, trigger.value)
            return backup
    raise Conflict("no free name for a backup within a second")


def _refuse_too_many(session: Session) -> None:
    """Raise Conflict where this backup would be one too many.

    Two that come at the same moment may both pass on PostgreSQL, where they
    do not see each other; the limit spares the machine, it guards no data.
    """
    limit = settings().max_jobs
    pending = select(DatabaseBackup.filename).where(
        DatabaseBackup.status == Status.PENDING,
        # What nobody has taken for so long may wait for a worker that never comes.
        or_(
            DatabaseBackup.claimed_by.is_not(None),
            DatabaseBackup.created_at > now() - _FORGOTTEN,
        ),
    )
    names = list(session.scalars(pending.order_by(DatabaseBackup.created_at)))
    if len(names) > limit:
        raise Conflict(
            f"as many backups are being made already as may be: {limit}",
            detail=f"The first is {names[0]}.",
            hint="Wait until one has ended, cancel one, or raise BACKSTOP_MAX_JOBS.",
        )


def _find_pending(name: DatabaseName) -> DatabaseBackup | None:
    return db.session.scalar(
        select(DatabaseBackup).where(
            DatabaseBackup.status == Status.PENDING,
            DatabaseBackup.server == name.server,
            DatabaseBackup.database == name.database,
        )
    )


def _in_the_way(pending: DatabaseBackup) -> Conflict:
    by = f" by {pending.created_by}" if pending.created_by else ""
    started = f"started over {pending.trigger.value}{by}"
    waiting = "" if pending.claimed_by else " and waits for a worker"
    return Conflict(
        f'{pending.filename} of database "{pending.database}" is still being made',
        detail=f"It was {started} at {moment_text(pending.created_at)}{waiting}.",
        hint="Wait until it has ended."
        if pending.claimed_by
        else "Wait until it has ended; if that never happens, start a worker: flask worker.",
    )


def list_unclaimed(*, older_than: timedelta) -> list[DatabaseBackup]:
    """Pending backups of our database and foreign dumps that wait for so long, oldest first."""
    name = database_name()
    waiting = (
        select(DatabaseBackup)
        .where(
            DatabaseBackup.status == Status.PENDING,
            DatabaseBackup.claimed_by.is_(None),
            or_(
                DatabaseBackup.foreign,
                (DatabaseBackup.server == name.server) & (DatabaseBackup.database == name.database),
            ),
            DatabaseBackup.created_at < now() - older_than,
        )
        .order_by(DatabaseBackup.created_at)
    )
    found = list(db.session.scalars(waiting))
    db.session.commit()
    return found
