"""How a run ends: told on its row, and on the server."""

import logging
from datetime import datetime
from typing import cast

import psycopg2

from app.errors import AppError, Interrupted, VerificationError
from app.extensions import db, writing
from app.models import AnyJob, DatabaseBackup, Restore
from app.postgres.connection import end_sessions
from app.services.databases import DatabaseName, configured_database, database_name, storage
from app.services.manifests import EDITABLE, build_manifest, columns_of, is_signed, read_manifest
from app.services.proofs import record_reading

logger = logging.getLogger(__name__)


def end_sessions_of(backup_id: str) -> None:
    """End what a run that is over still does on the server, if it can be reached."""
    backup = db.session.get(DatabaseBackup, backup_id)
    db.session.commit()
    if backup is None or DatabaseName(backup.server, backup.database) != database_name():
        return
    try:
        ended = end_sessions(configured_database(), session_name(backup.filename))
    except (AppError, psycopg2.Error) as error:
        logger.warning("sessions not ended filename=%s error=%r", backup.filename, str(error))
    else:
        if ended:
            logger.warning("sessions ended filename=%s number=%d", backup.filename, ended)


def record_failure(
    job_id: str,
    error: AppError,
    log: str = "",
    *,
    judged: datetime | None = None,
    job: AnyJob = DatabaseBackup,
) -> bool:
    """Say on the row that it has failed, and why; False if it stays as it is.

    So it does once it has ended and, with the lease that somebody else
    `judged`, where that is no longer the same: its runner has renewed it.
    """
    with writing() as session:
        found = session.get(job, job_id, with_for_update=True)
        row = cast("DatabaseBackup | Restore | None", found)
        if row is None or not row.is_pending:
            return False
        if judged is not None and row.lease_until != judged:
            return False
        if row.cancelled_by is not None and isinstance(error, Interrupted):
            error = Interrupted(f"cancelled by {row.cancelled_by}")
        row.fail(error)
        if log:
            row.log = log
        filename = row.filename
    logger.warning("%s failed filename=%s error=%r", job.word, filename, error.message)
    return True


def record_success(backup_id: str, log: str = "") -> None:
    """Say on the row that the dump is published, as its manifest tells; the last step.

    Also where the row says FAILED: a runner that was taken for dead while it
    slept may have published after all, and what counts is the whole file.
    """
    row = db.session.get(DatabaseBackup, backup_id)
    db.session.commit()
    if row is None:
        return
    filename = row.filename
    content = read_manifest(storage().manifest(filename))
    if not is_signed(content):
        raise VerificationError(f"the manifest of {filename} was not written by this panel")
    told = columns_of(content)
    with writing() as session:
        backup = session.get(DatabaseBackup, backup_id, with_for_update=True)
        if backup is None or backup.is_completed:
            return
        for name in told.keys() - {"id", "filename"}:
            if name not in EDITABLE or not backup.manifest_stale:  # they were edited meanwhile
                setattr(backup, name, told[name])
        backup.complete(told["finished_at"])
        record_reading(session, backup)
        if log:
            backup.log = log
        is_stale = backup.manifest_stale
    logger.info("backup completed filename=%s size=%d", filename, told["size"])
    if is_stale:
        renew_manifest(backup_id)


def renew_manifest(backup_id: str) -> None:
    """Write the manifest of a completed backup as its row is now.

    The row stays locked meanwhile: of two edits the later one shall stand in
    both. Raises StorageError; the row still says then that this is due.
    """
    with writing() as session:
        backup = session.get(DatabaseBackup, backup_id, with_for_update=True)
        if backup is None or not backup.is_completed:
            return
        if storage().has(backup.filename):
            storage().replace_manifest(backup.filename, build_manifest(backup))
        backup.manifest_stale = False


def session_name(filename: str) -> str:
    """The application name of all sessions that work for a backup."""
    return f"backstop {filename}"
