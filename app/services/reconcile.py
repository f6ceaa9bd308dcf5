"""Make catalogue and storage agree again after something was killed.

Rolls forward what is whole, rolls back what is not, finishes deletes that
were begun, and never deletes a complete dump. Safe to run at any time, by
several processes at once.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, OperationalError

from app.errors import (
    AppError,
    Conflict,
    Interrupted,
    ObjectMissing,
    StorageError,
    VerificationError,
)
from app.extensions import db, writing
from app.models import BackupStatus, DatabaseBackup, Trigger
from app.postgres.conninfo import remove_stale_passfiles
from app.services import claims
from app.services.backup_run import record_failure, record_success
from app.services.databases import private_dir, storage
from app.services.manifests import Proof, moment_of, proof_of, read_manifest

logger = logging.getLogger(__name__)


@dataclass
class Reconciled:
    """What was found and mended; all by filename."""

    completed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)  # partials and lone manifests
    unknown: list[str] = field(default_factory=list)  # complete files without a row


def reconcile() -> Reconciled:
    """Bring rows and files in line, and say what was done."""
    report = Reconciled()
    _settle_dead_runs(report)
    _finish_deletes(report)
    _tidy_storage(report)
    remove_stale_passfiles(private_dir())
    return report


def adopt(filename: str) -> None:
    """Give a complete dump without a row its row back, from its manifest.

    Raises VerificationError where no manifest fits it, Conflict where it has a row.
    """
    proof = _published(filename)
    if proof is None:
        raise VerificationError(
            f"{filename} has no manifest that fits it",
            hint="It may be whole all the same; pg_restore reads it without the panel.",
        )
    told = read_manifest(storage().manifest(filename))
    row = DatabaseBackup(
        id=told["id"],
        filename=filename,
        size=proof.size,
        sha256=proof.sha256,
        oldest_reader=proof.oldest_reader,
        status=BackupStatus.COMPLETED,
        server=told["server"],
        database=told["database"],
        server_version=told["serverVersion"],
        tool_version=told["toolVersion"],
        compression=told["compression"],
        trigger=Trigger(told["trigger"]),
        created_by=told["createdBy"],
        created_at=moment_of(told["createdAt"]),
        started_at=moment_of(told["startedAt"]),
        finished_at=moment_of(told["finishedAt"]),
        notes=told["notes"],
    )
    try:
        with writing() as session:
            session.add(row)
    except IntegrityError as error:
        raise Conflict(f"{filename} is in the catalogue already") from error
    logger.info("backup adopted filename=%s", filename)


@contextmanager
def tolerating() -> Iterator[None]:
    """Look after what was lost, and only log what is in the way: the next turn may fare better."""
    try:
        yield
    except AppError as error:
        logger.warning("reconcile failed error=%r hint=%r", error.message, error.hint)
    except OperationalError as error:
        logger.warning("reconcile failed error=%r", str(error.orig))


def _settle_dead_runs(report: Reconciled) -> None:
    doubtful = select(DatabaseBackup).where(
        (DatabaseBackup.status == BackupStatus.PENDING) & DatabaseBackup.claimed_by.is_not(None)
    )
    rows = [
        (row.id, row.filename, row.lease_until)
        for row in db.session.scalars(doubtful)
        if row.claimed_by is not None and claims.is_dead(row.claimed_by, row.lease_until)
    ]
    db.session.commit()
    for backup_id, filename, lease_until in rows:
        proof = _published(filename)
        if proof is not None:
            record_success(backup_id, proof)
            report.completed.append(filename)
        else:
            record_failure(
                backup_id,
                Interrupted(
                    "the backup was interrupted",
                    detail="Its runner is gone: it was killed, or its machine was restarted.",
                    hint="Start the backup again.",
                ),
                judged=lease_until,
            )
            report.failed.append(filename)


def _published(filename: str) -> Proof | None:
    """The proof of a dump that lies under its final name with a manifest that fits."""
    try:
        proof = proof_of(read_manifest(storage().manifest(filename)))
        with storage().open(filename) as file:
            return proof if file.seek(0, 2) == proof.size else None
    except (ObjectMissing, VerificationError):
        return None


def _finish_deletes(report: Reconciled) -> None:
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


def _tidy_storage(report: Reconciled) -> None:
    report.removed += storage().remove_abandoned_partials()
    report.removed += storage().remove_lone_manifests()
    if report.removed:
        logger.info("leftovers removed names=%s", ",".join(report.removed))
    stored = storage().list()
    rows = db.session.execute(
        select(DatabaseBackup.filename, DatabaseBackup.id, DatabaseBackup.status)
    )
    known = {filename: (backup_id, status) for filename, backup_id, status in rows}
    db.session.commit()
    for filename in stored:
        if filename not in known:
            report.unknown.append(filename)
        elif known[filename][1] is BackupStatus.FAILED:
            # Its runner was taken for dead, woke up, published, and was killed.
            proof = _published(filename)
            if proof is not None:
                record_success(known[filename][0], proof)
                report.completed.append(filename)
