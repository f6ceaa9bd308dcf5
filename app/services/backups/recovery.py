"""Roll backups and deletions that were killed forward, or back."""

import logging
import time
from pathlib import Path

from sqlalchemy import String, select, type_coerce
from sqlalchemy.exc import IntegrityError

from app.errors import Conflict, Interrupted, ObjectMissing, StorageError, VerificationError
from app.extensions import db, writing
from app.models import DatabaseBackup, Status
from app.services.backups.manifests import (
    Manifest,
    database_id_in,
    distrusted,
    facts_in,
    is_signed,
    read_manifest,
)
from app.services.backups.publication import end_sessions_of, record_success, renew_manifest
from app.services.databases.configured import storage
from app.services.jobs import claims
from app.services.jobs.outcomes import record_failure
from app.services.jobs.settling import Reconciled, end_program, settles
from app.services.proofs.records import record_reading

logger = logging.getLogger(__name__)

_LOOK_EVERY = 600.0  # seconds between two checks of all files while no name changes
_looked_at: dict[Path, tuple[int, float]] = {}  # by folder: its state, and when

_RUNNER_GONE = Interrupted(
    "the backup was interrupted",
    detail="Its runner is gone: it was killed, or its machine was restarted.",
    hint="Start the backup again.",
)


@settles
def settle_dead_backups(report: Reconciled) -> None:
    """End the backups whose runner is gone: COMPLETED where the dump is whole, else FAILED."""
    doubtful = select(DatabaseBackup).where(
        (DatabaseBackup.status == Status.PENDING) & DatabaseBackup.claimed_by.is_not(None)
    )
    dead = [
        (row.id, row.filename, row.lease_until, row.process, claims.is_gone(row.claimed_by))
        for row in db.session.scalars(doubtful)
        if row.claimed_by is not None and claims.is_dead(row.claimed_by, row.lease_until)
    ]
    db.session.commit()
    for backup_id, filename, lease_until, process, is_gone in dead:
        # First its program: if we were killed later, nobody would end it.
        if is_gone:
            end_program(process, filename, report)
        if published(filename) is not None:
            record_success(backup_id)
            report.completed.append(filename)
        elif record_failure(backup_id, _RUNNER_GONE, judged=lease_until):
            report.failed.append(filename)
        else:
            continue  # its runner is alive
        if not is_gone:
            end_program(process, filename, report)
        end_sessions_of(backup_id)


def adopt(filename: str) -> bool:
    """Create a row for a complete dump that has none; return whether it is one of ours.

    Without our signature on its manifest it becomes a foreign one. Raises
    VerificationError without a manifest that fits it, Conflict if it has a row.
    """
    stored = published(filename, signed=False)
    if stored is None:
        raise VerificationError(
            f"{filename} has no manifest that fits it",
            hint="It may still be whole; pg_restore reads it without the panel.",
        )
    manifest, is_ours = stored
    columns = (manifest if is_ours else distrusted(manifest)).columns()
    columns["database_id"] = database_id_in(manifest)
    try:
        with writing() as session:
            backup = DatabaseBackup(status=Status.COMPLETED, manifest_stale=not is_ours, **columns)
            session.add(backup)
            session.flush()
            record_reading(session, backup)
    except IntegrityError as error:
        raise Conflict(f"{filename} is in the catalogue already") from error
    renew_manifests()
    logger.info("backup adopted filename=%s foreign=%s", filename, columns["foreign"])
    return is_ours


def published(filename: str, *, signed: bool = True) -> tuple[Manifest, bool] | None:
    """The manifest of a published dump, and whether it is signed; makes its name durable.

    None if it does not fit the dump, or must be `signed` and is not.
    """
    try:
        content = read_manifest(storage().manifest(filename))
        manifest, is_ours = facts_in(content), is_signed(content)
        with storage().open(filename) as file:
            fits = manifest.filename == filename and file.seek(0, 2) == manifest.size
    except (ObjectMissing, VerificationError):
        return None
    if not fits or (signed and not is_ours):
        return None
    storage().make_durable()
    return manifest, is_ours


def finish_deletes(report: Reconciled) -> None:
    """Finish deletions that were killed."""
    begun = select(DatabaseBackup.id, DatabaseBackup.filename).where(
        DatabaseBackup.delete_requested_at.is_not(None)
    )
    rows = list(db.session.execute(begun))
    db.session.commit()
    for backup_id, filename in rows:
        try:
            storage().delete(filename)
        except StorageError as error:
            logger.warning("delete not finished filename=%s error=%r", filename, error.message)
            continue
        with writing() as session:
            backup = session.get(DatabaseBackup, backup_id)
            if backup is not None:
                session.delete(backup)
        report.deleted.append(filename)
        logger.info("delete finished filename=%s", filename)


def renew_manifests() -> None:
    """Write the manifests of edited rows."""
    stale = select(DatabaseBackup.id, DatabaseBackup.filename).where(
        DatabaseBackup.manifest_stale, DatabaseBackup.status == Status.COMPLETED
    )
    rows = list(db.session.execute(stale))
    db.session.commit()
    for backup_id, filename in rows:
        try:
            renew_manifest(backup_id)
        except StorageError as error:
            logger.warning("manifest not renewed filename=%s error=%r", filename, error.message)


def tidy_storage(report: Reconciled, *, thorough: bool) -> None:
    """Remove leftovers and complete rows of whole dumps, if a check of all files is due."""
    if not (thorough or _is_due()):
        return
    report.removed += storage().remove_abandoned_partials()
    report.removed += storage().uploads.remove_old()
    completed = select(DatabaseBackup.filename).where(DatabaseBackup.status == Status.COMPLETED)
    # The manifest of a missing dump is needed if the dump is put back.
    missed = set(db.session.scalars(completed))
    db.session.commit()
    report.removed += storage().remove_lone_manifests(keep=missed)
    if report.removed:
        logger.info("leftovers removed names=%s", ",".join(report.removed))
    stored = storage().names()
    # As text, so that an invalid status does not stop the recovery of the others.
    status = type_coerce(DatabaseBackup.status, String)
    rows = db.session.execute(select(DatabaseBackup.filename, DatabaseBackup.id, status))
    known = {filename: (backup_id, status) for filename, backup_id, status in rows}
    db.session.commit()
    for filename in stored:
        if filename not in known:
            report.unknown.append(filename)
        elif known[filename][1] == Status.FAILED.value and published(filename) is not None:
            # Its runner was taken for dead, woke up, published the dump, and was killed.
            record_success(known[filename][0])
            report.completed.append(filename)


def _is_due() -> bool:
    """Whether to check all files: the folder has changed, or the last check is long ago."""
    changed, last = storage().changed_at(), _looked_at.get(storage().folder)
    if last is not None and last[0] == changed and time.monotonic() < last[1] + _LOOK_EVERY:
        return False
    _looked_at[storage().folder] = changed, time.monotonic()
    return True
