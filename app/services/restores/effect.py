"""Whether a restore that did not live to tell has happened all the same."""

from app.extensions import db
from app.models import Kind, Restore
from app.postgres.databases import neighbour, serving
from app.services.jobs.session_names import restore_session
from app.services.restores.in_place import has_loaded
from app.services.restores.scratch import server_of
from app.services.restores.swap import has_swapped


def has_taken_effect(restore_id: str) -> bool:
    """Whether the backup's database has the name that it was to get.

    The restore's sessions are ended first.

    Raises ConnectError, PostgresError where that cannot be told.
    """
    return has_swapped(restore_id) or has_loaded(restore_id) or _was_named(restore_id)


def _was_named(restore_id: str) -> bool:
    """Whether the database of a restore beside has its name."""
    row = db.session.get_one(Restore, restore_id)
    marker = row.marker if row.kind is Kind.BESIDE else None
    db.session.commit()
    if marker is None:
        return False
    info = neighbour(server_of(Kind.BESIDE))
    with serving(info, application_name="backstop look") as server:
        server.end_sessions(restore_session(restore_id))
        return server.oid_of(marker["database"]) == int(marker["oid"])
