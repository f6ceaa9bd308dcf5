"""Proofs of backups: record them, and choose the one to show."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from app.errors import AppError, DumpError, RestoreError, VerificationError
from app.extensions import db
from app.models import Assertion, DatabaseBackup, Kind, Level, Proof, Restore, Result

# Errors of the dump itself.
_EVIDENCE = (VerificationError, DumpError, RestoreError)


def judge(error: AppError) -> Result:
    """The result that an error proves; FAILED only for one of the dump."""
    return Result.FAILED if isinstance(error, _EVIDENCE) else Result.NOT_POSSIBLE


def record_reading(session: Session, backup: DatabaseBackup) -> None:
    """Record the proof in the contents of a dump."""
    read = (backup.contents or {}).get("read")
    if read is not None:
        result = Result.FAILED if read["evidence"]["differences"] else Result.PASSED
        if backup.contents and backup.contents.get("rowsOnly"):
            result = Result.NOT_POSSIBLE
        backup.proven = result is Result.PASSED
        session.add(
            Proof(
                backup_id=backup.id,
                level=Level.READ,
                result=result,
                proved_at=backup.finished_at,
                milliseconds=round(read["seconds"] * 1000),
                evidence=read["evidence"],
            )
        )


def list_proofs(backup_id: str) -> list[Proof]:
    """All proofs of a backup, newest first."""
    of_backup = select(Proof).where(Proof.backup_id == backup_id)
    return list(db.session.scalars(of_backup.order_by(Proof.proved_at.desc(), Proof.level.desc())))


def proof_of(restore: Restore) -> Proof | None:
    """The proof of an ended drill; None if it has none."""
    if restore.kind is not Kind.DRILL or restore.started_at is None or restore.is_pending:
        return None
    during = (
        select(Proof)
        .join(DatabaseBackup, DatabaseBackup.id == Proof.backup_id)
        .where(
            DatabaseBackup.filename == restore.filename,
            Proof.level == Level.RESTORED,
            Proof.proved_at.between(restore.started_at, restore.finished_at),
        )
    )
    return db.session.scalar(during.order_by(Proof.proved_at.desc()).limit(1))


def was_not_possible() -> ColumnElement[bool]:
    """A condition on drills: that it proved nothing about its backup."""
    return exists().where(
        DatabaseBackup.filename == Restore.filename,
        Proof.backup_id == DatabaseBackup.id,
        Proof.level >= Level.RESTORED,
        Proof.result == Result.NOT_POSSIBLE,
        Proof.proved_at.between(Restore.started_at, Restore.finished_at),
    )


def best_proofs(backups: Iterable[DatabaseBackup]) -> dict[str, Proof]:
    """The proof to show for each backup, by its id.

    The newest failure, unless a later proof refutes it or its assertions were removed;
    otherwise the newest of the highest level that passed.
    """
    return best_proofs_of([backup.id for backup in backups])


def best_proofs_of(backup_ids: Collection[str]) -> dict[str, Proof]:
    """The same for backups by their ids."""
    proofs = select(Proof).where(Proof.backup_id.in_(backup_ids))
    return _best(db.session.scalars(proofs.order_by(Proof.proved_at)))


def failing_backups(database_id: str | None = None) -> list[str]:
    """The ids of the backups of one or all databases with a failure to show; usually few."""
    failed = select(Proof.backup_id).where(Proof.result == Result.FAILED)
    proofs = select(Proof).where(Proof.backup_id.in_(failed))
    if database_id is not None:
        of_database = select(DatabaseBackup.id).filter_by(database_id=database_id)
        proofs = proofs.where(Proof.backup_id.in_(of_database))
    best = _best(db.session.scalars(proofs.order_by(Proof.proved_at)))
    return [backup_id for backup_id, proof in best.items() if proof.is_failed]


def _best(oldest_first: Iterable[Proof]) -> dict[str, Proof]:
    current: set[str] | None = None  # assertions, read only if something has failed
    passed: dict[str, list[Proof]] = defaultdict(list)
    failed: dict[str, list[Proof]] = defaultdict(list)
    for proof in oldest_first:
        of_backup = failed[proof.backup_id]
        if proof.result is Result.FAILED:
            if current is None:
                current = set(db.session.scalars(select(Assertion.id)))
            if _still_counts(proof, current):
                of_backup.append(proof)
        elif proof.result is Result.PASSED:
            of_backup[:] = [failure for failure in of_backup if failure.level > proof.level]
            passed[proof.backup_id].append(proof)
    best = {name: _highest(proofs) for name, proofs in passed.items()}
    return best | {name: proofs[-1] for name, proofs in failed.items() if proofs}


def _still_counts(failed: Proof, current: set[str]) -> bool:
    """Whether something failed besides assertions that were removed since."""
    false = [answer for answer in failed.evidence.get("assertions", []) if is_untrue(answer)]
    return (
        not false
        or bool(failed.evidence["found"])
        or any(answer["id"] in current for answer in false)
    )


def is_untrue(answer: dict[str, Any]) -> bool:
    """Whether the answer to an assertion is false."""
    return not (answer["passed"] or answer.get("unanswered"))


def _highest(passed: list[Proof]) -> Proof:
    """The newest of the highest level; the list begins with the oldest."""
    return max(reversed(passed), key=lambda proof: proof.level)
