"""Record the failure of a job in its row."""

import logging
from datetime import datetime
from typing import cast

from app.errors import AppError, Interrupted
from app.extensions import writing
from app.models import AnyJob, DatabaseBackup, Restore

logger = logging.getLogger(__name__)


def record_failure(
    job_id: str,
    error: AppError,
    log: str = "",
    *,
    judged: datetime | None = None,
    job: AnyJob = DatabaseBackup,
) -> bool:
    """Record in the row that the job failed, and why; False if the row is left unchanged.

    That is so if it has ended, or if its lease is not the one that was `judged` as
    expired: then its runner has renewed it.
    """
    with writing() as session:
        stored = session.get(job, job_id, with_for_update=True)
        row = cast("DatabaseBackup | Restore | None", stored)
        if row is None or not row.is_pending:
            return False
        if judged is not None and row.lease_until != judged:
            return False
        if row.cancelled_by is not None and isinstance(error, Interrupted):
            error = Interrupted(f"cancelled by {row.cancelled_by}")
        row.fail(error)
        if log:
            row.log = log
        filename = row.filename
    logger.warning("%s failed filename=%s error=%r", job.word, filename, error.message)
    return True
