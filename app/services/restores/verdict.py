"""What a restore proves about its backup, and when that ends the restore."""

import logging
from typing import Any

from app.errors import AppError, Interrupted, NotPossible, PostgresError, VerificationError
from app.extensions import writing
from app.models import DatabaseBackup, Kind, Level, Proof, Restore, Result
from app.models.types import now
from app.services.jobs.outcomes import record_failure
from app.services.proofs import ask
from app.services.proofs.ask import Asserted
from app.services.proofs.records import judge
from app.services.restores.effect import fail_unless_effective
from app.services.restores.load import RestoreRun
from app.services.restores.order import Order

logger = logging.getLogger(__name__)


def record_verdict(
    run: RestoreRun, order: Order, result: dict[str, Any], asserted: Asserted
) -> None:
    """Judge the backup; raise if a drill found a difference or an assertion is not true.

    The proofs of a drill are stored with the end of its row. Those of other restores are
    stored now, because they can take effect even if their runner dies.
    """
    differences, seconds = result["differences"], result["seconds"]
    run.is_judged = True
    if "tables" in order.contents and order.is_of_all:  # otherwise there is no whole to compare
        proof = Result.FAILED if differences else Result.PASSED
        _prove(run, order, proof, seconds, result)
        if asserted.failures or (asserted.proves and not differences):
            proof = Result.NOT_POSSIBLE if asserted.unanswered else Result.PASSED
            proof = Result.FAILED if asserted.failures else proof
            seconds += asserted.seconds
            _prove(run, order, proof, seconds, asserted.evidence, level=Level.ASSERTED)
    if order.kind is not Kind.DRILL:
        store_proofs(run, order)
    if differences and order.kind is Kind.DRILL:
        raise PostgresError(
            "the drill found differences: the restored database is not what was backed up",
            detail="; ".join([*differences, *asserted.failures]),
            hint="Make another backup, and read the log of this drill.",
        )
    if asserted.failures and order.kind is not Kind.BESIDE:
        raise ask.refusal(asserted, order.kind)
    if asserted.unanswered and order.kind is not Kind.BESIDE:
        raise ask.no_answer(asserted, order.kind)


def record_error(run: RestoreRun, order: Order, error: AppError, seconds: float) -> None:
    """Record that it failed, unless it took effect, and what the error proves, if anything."""
    if isinstance(error, Interrupted):
        run.proofs.clear()
    result = None if run.is_judged else _proven_by(error, order)
    if result is not None:
        _prove(run, order, result, seconds, {"differences": [error.in_words()]})
    if order.kind is Kind.DRILL:
        with writing():
            if record_failure(order.id, error, run.log.text(), job=Restore):
                store_proofs(run, order)
        return
    store_proofs(run, order)
    fail_unless_effective(order.id, error, run.log.text())


def store_proofs(run: RestoreRun, order: Order) -> None:
    """Store what the run has proven, unless the backup was deleted meanwhile."""
    with writing() as session:
        backup = session.get(DatabaseBackup, order.backup_id)
        if backup is None:
            return
        for proof in run.proofs:
            backup.proven = backup.proven or proof.is_passed
            session.add(proof)
            logger.info(
                "proof made filename=%s level=%d result=%r",
                order.filename,
                proof.level,
                proof.result.value,
            )
    run.proofs = []


def _proven_by(error: AppError, order: Order) -> Result | None:
    """The result to record for an error; None for none.

    If some tables cannot be loaded on their own, or the whole not over the live database,
    that says nothing about the backup.
    """
    if isinstance(error, Interrupted):
        return None
    result = judge(error)
    if not order.is_of_all:
        return result if isinstance(error, VerificationError) else None
    is_wanted = order.kind is Kind.DRILL or isinstance(error, NotPossible)
    return result if is_wanted or result is Result.FAILED else None


def _prove(
    run: RestoreRun,
    order: Order,
    result: Result,
    seconds: float,
    evidence: dict[str, Any],
    *,
    level: Level = Level.RESTORED,
) -> None:
    run.proofs.append(
        Proof(
            backup_id=order.backup_id,
            level=level,
            result=result,
            proved_at=now(),
            milliseconds=round(seconds * 1000),
            evidence=dict(evidence),  # the result of the row still changes
        )
    )
