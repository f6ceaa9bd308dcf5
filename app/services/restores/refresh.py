"""The database that a scheduled restore makes anew: which it may be, and what is kept of it."""

import logging

from sqlalchemy import select

from app.errors import InvalidInput
from app.extensions import db, writing
from app.models import Database, Restore, Schedule
from app.models.types import now
from app.postgres.databases import Server
from app.services.databases.lookup import not_retired
from app.services.restores.names import checked_name
from app.services.restores.order import Order

logger = logging.getLogger(__name__)

# Of each server; to rename a database, we sign in to one of them.
_SYSTEM = frozenset({"postgres", "template0", "template1"})


def checked_target(name: str, database: Database) -> str:
    """The name of the database that a schedule of `database` may make anew.

    Raises InvalidInput, also if the panel guards a database of that name there.
    """
    name = checked_name(name.strip(), database.dbname)
    if not name:
        raise InvalidInput(
            "a schedule that restores needs a target",
            hint="Name the database that it makes anew, for example shop_staging.",
        )
    if name in _SYSTEM:
        raise InvalidInput(f'database "{name}" belongs to the server', hint="Choose another name.")
    same = select(Database.name).where(
        Database.server == database.server, Database.dbname == name, not_retired()
    )
    guarded = db.session.scalar(same)
    if guarded is not None:
        raise InvalidInput(
            f'database "{name}" is guarded as {guarded}, so no schedule replaces it',
            hint="Choose another name.",
        )
    return name


def find_others(server: Server, target: str, schedule: Schedule | None) -> int | None:
    """The OID of a database of this name that the schedule did not make and may not replace."""
    oid = server.oid_of(target)
    if oid is None or schedule is None:
        return oid
    return None if schedule.replaceable == oid or is_made_by(schedule.id, oid) else oid


def is_made_by(schedule_id: str | None, oid: int | None) -> bool:
    """Whether a database was made by a restore of this schedule."""
    markers = select(Restore.marker).where(
        Restore.schedule_id == schedule_id, Restore.marker.is_not(None)
    )
    newest_first = db.session.scalars(markers.order_by(Restore.created_at.desc()))
    return any(marker is not None and marker.get("oid") == oid for marker in newest_first)


def not_ours(target: str) -> InvalidInput:
    """The error for a database that others made."""
    return InvalidInput(
        f'database "{target}" exists already, and this schedule did not make it',
        hint=f"Choose another name, or type {target} again to let the schedule replace it.",
    )


def refuse_others(server: Server, order: Order) -> None:
    """Raise InvalidInput if a scheduled restore would replace a database of others."""
    schedule = db.session.get(Schedule, order.schedule_id, populate_existing=True)
    if schedule is None:
        raise InvalidInput("the schedule of this restore was deleted")
    try:
        checked_target(order.database, order.guarded)
        if find_others(server, order.database, schedule) is not None:
            raise not_ours(order.database)
    finally:
        db.session.commit()


def expire_kept(schedule_id: str) -> None:
    """Let the replaced databases expire that are more than the schedule keeps."""
    with writing() as session:
        schedule = session.get_one(Schedule, schedule_id)
        kept = select(Restore).where(
            Restore.schedule_id == schedule_id,
            Restore.kept.is_not(None),
            Restore.dropped_at.is_(None),
        )
        newest_first = session.scalars(kept.order_by(Restore.created_at.desc())).all()
        for row in newest_first[schedule.keep_last :]:
            row.kept_until = min(row.kept_until or now(), now())
