"""Whether a restore took effect although its runner did not report it."""

import logging

from app.errors import AppError
from app.extensions import db, writing
from app.models import Kind, Restore
from app.models.types import now
from app.postgres.databases import neighbour, serving
from app.services.jobs.outcomes import record_failure
from app.services.jobs.session_names import restore_session
from app.services.restores.in_place import has_loaded
from app.services.restores.scratch import live_of
from app.services.restores.swap import has_swapped

logger = logging.getLogger(__name__)


def has_taken_effect(restore_id: str) -> bool:
    """Whether the restored database got its final name.

    The restore's sessions are ended first. Raises ConnectError, PostgresError if that cannot
    be found out.
    """
    return has_swapped(restore_id) or has_loaded(restore_id) or _was_named(restore_id)


def fail_unless_effective(restore_id: str, error: AppError, log: str) -> None:
    """Record that it failed, unless it took effect; if that is unknown, recovery decides."""
    try:
        if has_taken_effect(restore_id):
            logger.warning(
                "restored despite an error restore=%s error=%r", restore_id, error.in_words()
            )
            with writing() as session:
                session.get_one(Restore, restore_id, with_for_update=True).complete(now())
            return
    except AppError as unknown:
        logger.warning("left to recovery restore=%s error=%r", restore_id, unknown.in_words())
        return
    record_failure(restore_id, error, log, job=Restore)


def _was_named(restore_id: str) -> bool:
    """Whether a new database got its name."""
    row = db.session.get_one(Restore, restore_id)
    marker = row.marker if row.kind in (Kind.BESIDE, Kind.REFRESH) else None
    live = live_of(row) if marker is not None else None
    db.session.commit()
    if marker is None or live is None:
        return False
    with live as info, serving(neighbour(info), application_name="backstop look") as server:
        server.end_sessions(restore_session(restore_id))
        return server.oid_of(marker["database"]) == int(marker["oid"])
