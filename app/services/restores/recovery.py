"""After a crash: record the outcome of killed restores, and remove their leftovers."""

from sqlalchemy import select

from app.errors import Interrupted
from app.extensions import db, writing
from app.logs import errors_logged
from app.models import Restore, Status
from app.models.types import now
from app.services.jobs import claims
from app.services.jobs.outcomes import record_failure
from app.services.jobs.settling import Reconciled, end_program, settles
from app.services.restores import drill_server
from app.services.restores.effect import has_taken_effect
from app.services.restores.scratch import sweep

_RESTORE_GONE = Interrupted(
    "the restore was interrupted",
    detail="Its process was killed, or the machine was restarted.",
    hint="The live database is unchanged. Start the restore again.",
)


@settles
def settle_dead_restores(report: Reconciled) -> None:
    """End the restores whose process is gone: COMPLETED if they took effect, else FAILED."""
    claimed = select(Restore).where(
        Restore.status == Status.PENDING, Restore.claimed_by.is_not(None)
    )
    dead = [
        (row.id, row.filename, row.lease_until, row.process)
        for row in db.session.scalars(claimed)
        if row.claimed_by is not None and claims.is_dead(row.claimed_by, row.lease_until)
    ]
    db.session.commit()
    for restore_id, filename, lease_until, process in dead:
        end_program(process, filename, report)
        with errors_logged("settling a restore"):
            if has_taken_effect(restore_id):
                with writing() as session:
                    session.get_one(Restore, restore_id).complete(now())
                report.completed.append(filename)
            elif record_failure(restore_id, _RESTORE_GONE, judged=lease_until, job=Restore):
                report.failed.append(filename)


def remove_leftovers(*, in_catalogue: bool = True) -> None:
    """Remove throwaway servers and scratch databases that are no longer needed.

    The latter are known by the catalogue: without rows `in_catalogue` there are none.
    """
    drill_server.sweep()
    if not in_catalogue:
        return
    with errors_logged("removing scratch databases"):  # their server may be unreachable
        sweep()
