"""Make catalogue and storage agree after a process was killed.

It completes what is whole, rolls back the rest, finishes deletions, and never deletes a
complete dump. Several processes can run it at any time.
"""

from sqlalchemy import ColumnElement, and_, exists, or_, select

from app.extensions import ask
from app.logs import errors_logged
from app.models import DatabaseBackup, Restore, Status
from app.models.types import now
from app.postgres.conninfo import remove_stale_passfiles
from app.services.backups import recovery as backup_recovery
from app.services.databases.configured import private_dir
from app.services.jobs.settling import Reconciled, settle_dead_jobs
from app.services.restores import recovery as restore_recovery


def reconcile(*, thorough: bool = True) -> Reconciled:
    """Make rows and files agree, and report what was done.

    Unless `thorough`, all files are checked only if a name has changed, or every ten
    minutes.
    """
    report = Reconciled()
    has_loose_ends = thorough or _has_loose_ends()
    if has_loose_ends:
        settle_dead_jobs(report)
        backup_recovery.finish_deletes(report)
        backup_recovery.renew_manifests()
    backup_recovery.tidy_storage(report, thorough=thorough)
    remove_stale_passfiles(private_dir())
    restore_recovery.remove_leftovers(in_catalogue=has_loose_ends)
    return report


def is_work_pending() -> bool:
    """Whether a backup or a restore waits or runs, in one cheap statement."""
    return bool(ask(select(_is_work_pending()))[0][0])


def _is_work_pending() -> ColumnElement[bool]:
    return or_(
        exists().where(DatabaseBackup.status == Status.PENDING),
        exists().where(Restore.status == Status.PENDING),
    )


def _has_loose_ends() -> bool:
    """Whether any row may have to be mended, in one cheap statement."""
    is_kept_too_long = and_(Restore.kept_until < now(), Restore.dropped_at.is_(None))
    loose_ends = or_(
        _is_work_pending(),
        exists().where(DatabaseBackup.delete_requested_at.is_not(None)),
        exists().where(DatabaseBackup.manifest_stale),
        exists().where(or_(Restore.tidied_at.is_(None), is_kept_too_long)),
    )
    return bool(ask(select(loose_ends))[0][0])


def try_to_reconcile(*, thorough: bool = True) -> None:
    """Reconcile, and only log errors."""
    with errors_logged("reconcile"):
        reconcile(thorough=thorough)
