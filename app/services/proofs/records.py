"""How far a backup is proven: what is written down, and what is told of it."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, case, exists, select
from sqlalchemy.orm import Session

from app.errors import AppError, DumpError, RestoreError, VerificationError
from app.extensions import db
from app.models import Assertion, DatabaseBackup, Kind, Level, Proof, Restore, Result
from app.services.databases.configured import DatabaseName

# Raised only where the dump itself is not what it should be.
_EVIDENCE = (VerificationError, DumpError, RestoreError)


def judge(error: AppError) -> Result:
    """What an error proves: FAILED is only for what speaks against the dump."""
    return Result.FAILED if isinstance(error, _EVIDENCE) else Result.NOT_POSSIBLE


def record_reading(session: Session, backup: DatabaseBackup) -> None:
    """Write down the proof that came with the dump, as its manifest tells it."""
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
    """What a drill that has ended has proven; None if it did not come to a proof."""
    if restore.kind is not Kind.DRILL or restore.started_at is None or restore.is_pending:
        return None
    meanwhile = (
        select(Proof)
        .join(DatabaseBackup, DatabaseBackup.id == Proof.backup_id)
        .where(
            DatabaseBackup.filename == restore.filename,
            Proof.level == Level.RESTORED,
            Proof.proved_at.between(restore.started_at, restore.finished_at),
        )
    )
    return db.session.scalar(meanwhile.order_by(Proof.proved_at.desc()).limit(1))


def was_not_possible() -> ColumnElement[bool]:
    """Of a drill in a query: whether it ended without a word about its backup."""
    return exists().where(
        DatabaseBackup.filename == Restore.filename,
        Proof.backup_id == DatabaseBackup.id,
        Proof.level >= Level.RESTORED,
        Proof.result == Result.NOT_POSSIBLE,
        Proof.proved_at.between(Restore.started_at, Restore.finished_at),
    )


def best_proofs(backups: Iterable[DatabaseBackup]) -> dict[str, Proof]:
    """What is told of each backup in one word, by its id.

    The newest failure, unless what it speaks of was shown to be right since, or
    is asked no more; else the highest level that has passed, as it did last.
    """
    proofs = select(Proof).where(Proof.backup_id.in_([each.id for each in backups]))
    return _best(db.session.scalars(proofs.order_by(Proof.proved_at)))


def best_of_many(backup_ids: list[str]) -> dict[str, Any]:
    """The same for thousands, by their ids: `level`, `proved_at` and `result` of each proof."""
    evidence = case((Proof.result == Result.FAILED, Proof.evidence)).label("evidence")
    columns = (Proof.backup_id, Proof.level, Proof.result, Proof.proved_at, evidence)
    proofs = select(*columns).where(Proof.backup_id.in_(backup_ids))
    return _best(db.session.execute(proofs.order_by(Proof.proved_at)))


def failing_backups(name: DatabaseName | None = None) -> list[str]:
    """The ids of the backups of a database, or of all, that are told as failed; few, mostly."""
    failed = select(Proof.backup_id).where(Proof.result == Result.FAILED)
    proofs = select(Proof).where(Proof.backup_id.in_(failed))
    if name is not None:
        of_database = select(DatabaseBackup.id).filter_by(**name._asdict())
        proofs = proofs.where(Proof.backup_id.in_(of_database))
    best = _best(db.session.scalars(proofs.order_by(Proof.proved_at)))
    return [backup_id for backup_id, proof in best.items() if proof.is_failed]


def _best(oldest_first: Iterable[Any]) -> dict[str, Any]:
    """Of proofs, or rows with their columns."""
    asked: set[str] | None = None  # assertions; not looked for where nothing has failed
    passed: dict[str, list[Any]] = defaultdict(list)
    failed: dict[str, list[Any]] = defaultdict(list)
    for proof in oldest_first:
        of_backup = failed[proof.backup_id]
        if proof.result is Result.FAILED:
            if asked is None:
                asked = set(db.session.scalars(select(Assertion.id)))
            if _still_counts(proof, asked):
                of_backup.append(proof)
        elif proof.result is Result.PASSED:
            of_backup[:] = [each for each in of_backup if each.level > proof.level]
            passed[proof.backup_id].append(proof)
    best = {name: _highest(them) for name, them in passed.items()}
    return best | {name: them[-1] for name, them in failed.items() if them}


def _still_counts(failed: Any, asked: set[str]) -> bool:
    """Whether it was not by assertions alone that have been removed since."""
    false = [each for each in failed.evidence.get("assertions", []) if is_untrue(each)]
    return not false or bool(failed.evidence["found"]) or any(each["id"] in asked for each in false)


def is_untrue(answer: dict[str, Any]) -> bool:
    """Whether the answer to an assertion speaks against the backup."""
    return not (answer["passed"] or answer.get("unanswered"))


def _highest(passed: list[Any]) -> Any:
    """Of the highest level the newest; they come oldest first."""
    return max(reversed(passed), key=lambda each: each.level)
