"""Make catalogue and storage agree after a process was killed.

It completes what is whole, rolls back the rest, finishes deletions, and never deletes a
complete dump. Several processes can run it at any time.
"""

from app.logs import errors_logged
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
    settle_dead_jobs(report)
    backup_recovery.finish_deletes(report)
    backup_recovery.renew_manifests()
    backup_recovery.tidy_storage(report, thorough=thorough)
    remove_stale_passfiles(private_dir())
    restore_recovery.remove_leftovers()
    return report


def try_to_reconcile(*, thorough: bool = True) -> None:
    """Reconcile, and only log errors."""
    with errors_logged("reconcile"):
        reconcile(thorough=thorough)
