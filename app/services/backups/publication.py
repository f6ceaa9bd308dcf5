"""Complete the row of a published dump, and keep its manifest up to date."""

import logging

import psycopg2

from app.errors import AppError, VerificationError
from app.extensions import db, writing
from app.models import DatabaseBackup
from app.models.types import now
from app.postgres.connection import end_sessions
from app.services.backups.manifests import (
    EDITABLE,
    build_manifest,
    facts_in,
    is_signed,
    read_manifest,
)
from app.services.databases.configured import storage
from app.services.databases.connections import reached
from app.services.databases.lookup import find_database
from app.services.jobs.session_names import backup_session
from app.services.proofs.records import record_reading

logger = logging.getLogger(__name__)


def record_success(backup_id: str, log: str = "") -> None:
    """Complete the row of a published dump from its manifest, as the last step.

    A FAILED row is completed too: a runner that was taken for dead while it slept may have
    published its dump.
    """
    row = db.session.get(DatabaseBackup, backup_id)
    db.session.commit()
    if row is None:
        return
    filename = row.filename
    content = read_manifest(storage().manifest(filename))
    if not is_signed(content):
        raise VerificationError(f"the manifest of {filename} was not written by this panel")
    manifest = facts_in(content)
    with writing() as session:
        backup = session.get(DatabaseBackup, backup_id, with_for_update=True)
        if backup is None or backup.is_completed:
            return
        for name, value in manifest.columns().items():
            if name not in EDITABLE or not backup.manifest_stale:  # edited meanwhile
                setattr(backup, name, value)
        backup.complete(manifest.finished_at or now())
        record_reading(session, backup)
        if log:
            backup.log = log
        is_stale = backup.manifest_stale
    logger.info("backup completed filename=%s size=%d", filename, manifest.size)
    if is_stale:
        renew_manifest(backup_id)


def renew_manifest(backup_id: str) -> None:
    """Write the manifest of a completed backup from its row.

    The row is locked meanwhile, so that row and manifest end with the same edit. Raises
    StorageError; the row is then still marked as stale.
    """
    with writing() as session:
        backup = session.get(DatabaseBackup, backup_id, with_for_update=True)
        if backup is None or not backup.is_completed:
            return
        if storage().has(backup.filename):
            storage().replace_manifest(backup.filename, build_manifest(backup))
        backup.manifest_stale = False


def end_sessions_of(backup_id: str) -> None:
    """End the sessions of a finished run on the server, if it can be reached."""
    backup = db.session.get(DatabaseBackup, backup_id)
    db.session.commit()
    database = find_database(backup.database_id) if backup is not None else None
    if backup is None or database is None:
        return
    try:
        with reached(database) as info:
            ended = end_sessions(info, backup_session(backup.filename))
    except (AppError, psycopg2.Error) as error:
        logger.warning("sessions not ended filename=%s error=%r", backup.filename, str(error))
    else:
        if ended:
            logger.warning("sessions ended filename=%s number=%d", backup.filename, ended)
