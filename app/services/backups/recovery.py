"""What was killed while it made, published or deleted a backup: rolled forward, or back."""

import logging
import time
from pathlib import Path
from typing import Any

from sqlalchemy import String, select, type_coerce
from sqlalchemy.exc import IntegrityError

from app.errors import Conflict, Interrupted, ObjectMissing, StorageError, VerificationError
from app.extensions import db, writing
from app.models import DatabaseBackup, Status
from app.services.backups.manifests import columns_of, distrusted, is_signed, read_manifest
from app.services.backups.publication import end_sessions_of, record_success, renew_manifest
from app.services.databases.configured import storage
from app.services.jobs import claims
from app.services.jobs.outcomes import record_failure
from app.services.jobs.settling import Reconciled, end_program, settles
from app.services.proofs.records import record_reading

logger = logging.getLogger(__name__)

_LOOK_EVERY = 600.0  # seconds between two looks at all files, where no name came or went
_looked_at: dict[Path, tuple[int, float]] = {}  # by folder: how it was, and when

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
        # First its program: what ends us now would leave it to nobody.
        if is_gone:
            end_program(process, filename, report)
        if published(filename) is not None:
            record_success(backup_id)
            report.completed.append(filename)
        elif record_failure(backup_id, _RUNNER_GONE, judged=lease_until):
            report.failed.append(filename)
        else:
            continue  # its runner lives after all
        if not is_gone:
            end_program(process, filename, report)
        end_sessions_of(backup_id)


def adopt(filename: str) -> bool:
    """Give a complete dump without a row its row back; whether it is one of ours.

    Where its manifest is not signed by this panel it becomes a foreign one.
    Raises VerificationError where no manifest fits it, Conflict where it has a row.
    """
    stored = published(filename, signed=False)
    if stored is None:
        raise VerificationError(
            f"{filename} has no manifest that fits it",
            hint="It may be whole all the same; pg_restore reads it without the panel.",
        )
    told, is_ours = stored
    told = told if is_ours else distrusted(told)
    try:
        with writing() as session:
            backup = DatabaseBackup(status=Status.COMPLETED, manifest_stale=not is_ours, **told)
            session.add(backup)
            session.flush()
            record_reading(session, backup)
    except IntegrityError as error:
        raise Conflict(f"{filename} is in the catalogue already") from error
    renew_manifests()
    logger.info("backup adopted filename=%s foreign=%s", filename, told["foreign"])
    return is_ours


def published(filename: str, *, signed: bool = True) -> tuple[dict[str, Any], bool] | None:
    """What the manifest says of a dump under its final name, and whether it is signed.

    None where it does not fit the dump, or must be `signed` and is not. Who
    published it may have died before the name was durable: now it is.
    """
    try:
        content = read_manifest(storage().manifest(filename))
        told, is_ours = columns_of(content), is_signed(content)
        with storage().open(filename) as file:
            fits = told["filename"] == filename and file.seek(0, 2) == told["size"]
    except (ObjectMissing, VerificationError):
        return None
    if not fits or (signed and not is_ours):
        return None
    storage().make_durable()
    return told, is_ours


def finish_deletes(report: Reconciled) -> None:
    """Finish what a deletion that was killed has begun."""
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
    """Write the manifests that are older than their rows."""
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
    """Remove leftovers and complete what is whole, by a look at all files where one is due."""
    if not (thorough or _is_due()):
        return
    report.removed += storage().remove_abandoned_partials()
    report.removed += storage().uploads.remove_old()
    completed = select(DatabaseBackup.filename).where(DatabaseBackup.status == Status.COMPLETED)
    # The manifest of a dump that is missed vouches for it when it comes back.
    missed = set(db.session.scalars(completed))
    db.session.commit()
    report.removed += storage().remove_lone_manifests(keep=missed)
    if report.removed:
        logger.info("leftovers removed names=%s", ",".join(report.removed))
    stored = storage().names()
    # Raw: a word that is none shall not keep the others from being mended.
    status = type_coerce(DatabaseBackup.status, String)
    rows = db.session.execute(select(DatabaseBackup.filename, DatabaseBackup.id, status))
    known = {filename: (backup_id, status) for filename, backup_id, status in rows}
    db.session.commit()
    for filename in stored:
        if filename not in known:
            report.unknown.append(filename)
        elif known[filename][1] == Status.FAILED.value and published(filename) is not None:
            # Its runner was taken for dead, woke up, published, and was killed.
            record_success(known[filename][0])
            report.completed.append(filename)


def _is_due() -> bool:
    """Whether all files are to be looked at, for what a look at the folder alone tells."""
    changed, last = storage().changed_at(), _looked_at.get(storage().folder)
    if last is not None and last[0] == changed and time.monotonic() < last[1] + _LOOK_EVERY:
        return False
    _looked_at[storage().folder] = changed, time.monotonic()
    return True
