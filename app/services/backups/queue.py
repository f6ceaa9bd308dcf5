"""Pending backups: at most one per database, and a limit for all."""

import logging
from dataclasses import dataclass
from datetime import timedelta

from cuid2 import create_id
from sqlalchemy import Select, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.config import settings
from app.errors import Conflict
from app.extensions import db, writing
from app.models import Database, DatabaseBackup, Restore, Status, Trigger
from app.models.backup import filename_of
from app.models.types import moment_text, now
from app.services.audit.acting import tell
from app.services.databases.configured import Address
from app.services.databases.lookup import is_known
from app.services.jobs.settling import settle_dead_jobs

logger = logging.getLogger(__name__)

_FORGOTTEN = timedelta(hours=1)

#: The server of foreign dumps, as rows name it.
FOREIGN = "elsewhere"


@dataclass(frozen=True)
class Imported:
    """A dump that was uploaded: the id of the upload, and its database's name elsewhere."""

    upload: str
    dbname: str


def insert_pending(
    trigger: Trigger,
    created_by: str,
    notes: str,
    *,
    of: Database | Imported,
    backup_id: str = "",
) -> DatabaseBackup:
    """Insert a PENDING row for a database, or for a dump that was uploaded.

    Raises Conflict, naming the other one, if a backup of this database is pending.
    """
    address = Address(FOREIGN if isinstance(of, Imported) else of.server, of.dbname)
    if _find_pending(address) is not None:
        settle_dead_jobs()  # its runner may be gone
    moment = now()
    for _ in range(1000):
        backup = DatabaseBackup(
            id=of.upload if isinstance(of, Imported) else backup_id or create_id(),
            database_id=None if isinstance(of, Imported) else of.id,
            foreign=isinstance(of, Imported),
            server=address.server,
            database=address.dbname,
            filename=filename_of(moment),
            created_at=moment,
            trigger=trigger,
            created_by=created_by[:255],
            notes=notes,
        )
        try:
            _insert(backup)
        except IntegrityError as error:
            if (pending := _find_pending(address)) is not None:
                raise _conflict(pending) from error
            moment += timedelta(milliseconds=1)  # two within one millisecond
        else:
            tell(subject=backup.filename)
            logger.info("backup queued filename=%s trigger=%s", backup.filename, trigger.value)
            return backup
    raise Conflict("no free name for a backup within a second")


def _insert(backup: DatabaseBackup) -> None:
    with writing() as session:
        session.add(backup)
        session.flush()  # the other backup of this database is the better error
        _refuse_too_many(session)


def _refuse_too_many(session: Session) -> None:
    """Raise Conflict if this backup exceeds the limit.

    On PostgreSQL two simultaneous ones may both pass, because they do not see each other;
    the limit only spares the machine.
    """
    limit = settings().max_jobs
    pending = select(DatabaseBackup.filename).where(
        DatabaseBackup.status == Status.PENDING,
        # One that nobody took for so long may wait for a worker that never comes.
        or_(
            DatabaseBackup.claimed_by.is_not(None),
            DatabaseBackup.created_at > now() - _FORGOTTEN,
        ),
    )
    names = list(session.scalars(pending.order_by(DatabaseBackup.created_at)))
    if len(names) > limit:
        raise Conflict(
            f"the limit of {limit} backups is reached",
            detail=f"The first is {names[0]}.",
            hint="Wait until one has ended, cancel one, or raise BACKSTOP_MAX_JOBS.",
        )


def _find_pending(address: Address) -> DatabaseBackup | None:
    return db.session.scalar(
        select(DatabaseBackup).where(
            DatabaseBackup.status == Status.PENDING,
            DatabaseBackup.server == address.server,
            DatabaseBackup.database == address.dbname,
        )
    )


def _conflict(pending: DatabaseBackup) -> Conflict:
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


def is_server_busy(backup: DatabaseBackup | Restore) -> bool:
    """Whether as many backups of this server run as may at once.

    On PostgreSQL two that are claimed at the same moment may both pass; the limit only spares
    the server.
    """
    running = select(func.count()).where(
        DatabaseBackup.status == Status.PENDING,
        DatabaseBackup.claimed_by.is_not(None),
        DatabaseBackup.foreign.is_(False),
        DatabaseBackup.server == backup.server,
    )
    return (db.session.scalar(running) or 0) >= settings().server_backups


def find_waiting(server: str) -> DatabaseBackup | None:
    """The backup of this server that waits for longest, and that this process can run."""
    waiting = _waiting().where(DatabaseBackup.server == server).limit(1)
    backup = db.session.scalar(waiting)
    db.session.commit()
    return backup


def list_unclaimed(*, older_than: timedelta) -> list[DatabaseBackup]:
    """Unclaimed backups that this process can run, of that age, oldest first."""
    backups = list(
        db.session.scalars(_waiting().where(DatabaseBackup.created_at < now() - older_than))
    )
    db.session.commit()
    return backups


def _waiting() -> Select[DatabaseBackup]:
    """Backups that nobody has claimed and this process can run, oldest first."""
    return (
        select(DatabaseBackup)
        .outerjoin(Database)
        .where(
            DatabaseBackup.status == Status.PENDING,
            DatabaseBackup.claimed_by.is_(None),
            or_(DatabaseBackup.foreign, is_known()),
        )
        .order_by(DatabaseBackup.created_at)
    )
