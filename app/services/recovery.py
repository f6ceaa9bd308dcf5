"""Make catalogue and storage agree again after something was killed.

Rolls forward what is whole, rolls back what is not, finishes deletes that
were begun, and never deletes a complete dump. Safe to run at any time, by
several processes at once.
"""

from app.logs import errors_logged
from app.postgres.conninfo import remove_stale_passfiles
from app.services.backups import recovery as backup_recovery
from app.services.databases.configured import private_dir
from app.services.jobs.settling import Reconciled, settle_dead_jobs
from app.services.restores import recovery as restore_recovery


def reconcile(*, thorough: bool = True) -> Reconciled:
    """Bring rows and files in line, and say what was done.

    Who asks again and again need not be `thorough`: then all files are looked at only
    where a name has come or gone, and every ten minutes.
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
    """Reconcile, and only log what is in the way: the next turn may fare better."""
    with errors_logged("reconcile"):
        reconcile(thorough=thorough)
