"""The copies of a database in a store: as the rules of retention see them, and removed by one."""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, case, select, true

from app.errors import Conflict, ObjectLocked
from app.extensions import db, writing
from app.models import Copy, Database, DatabaseBackup, Store
from app.models.types import now
from app.services.copies.mark import mark_key
from app.services.copies.removal import take_away
from app.services.proofs.records import failing_backups
from app.services.retention.candidate import Candidate
from app.services.retention.listing import is_drilled, is_proven
from app.services.retention.rules import DAY
from app.services.stores.credentials import opened


class NothingGood(Conflict):
    """What a plan keeps as the newest good one is no longer good."""


def list_copy_candidates(database: Database, store: Store, at: datetime) -> list[Candidate]:
    """The good copies of a database in a store, oldest first, also of backups that are gone."""
    damaged = set(failing_backups(database.id))
    return [
        Candidate(
            row.id,
            row.filename,
            row.dumped_at,
            row.size,
            is_proven=bool(row.is_proven),
            is_drilled=bool(row.is_drilled),
            is_foreign=bool(row.foreign),
            is_partial=row.is_partial,
            is_damaged=row.backup_id in damaged,
            pin=row.pin,
            hold="locked in the store" if row.locked_until and row.locked_until > at else "",
        )
        for row in db.session.execute(_good_copies(database, store)).all()
    ]


def _good_copies(database: Database, store: Store) -> Select[*tuple[Any, ...]]:
    """What the rules ask about each of them; a backup that is gone counts as proven."""
    is_gone = DatabaseBackup.id.is_(None)
    return (
        select(
            Copy.id,
            Copy.filename,
            Copy.dumped_at,
            Copy.size,
            Copy.is_partial,
            Copy.locked_until,
            DatabaseBackup.id.label("backup_id"),
            DatabaseBackup.foreign,
            case((DatabaseBackup.pinned_at.is_not(None), DatabaseBackup.pin_reason)).label("pin"),
            case((is_gone, true()), else_=is_proven()).label("is_proven"),
            is_drilled().label("is_drilled"),
        )
        .outerjoin(DatabaseBackup, DatabaseBackup.id == Copy.backup_id)
        .where(
            Copy.database_id == database.id,
            Copy.store_id == store.id,
            Copy.good(),
        )
        .order_by(Copy.dumped_at, Copy.id)
    )


def take_from_store(copy_id: str, newest: Candidate | None, store: Store) -> None:
    """Remove a copy that a plan does not keep, while `newest`, which it keeps, is there.

    Raises NothingGood, NotFound, StorageError, and Conflict if it must stay after all: a
    locked one is not tried again for a day.
    """

    def refuse(copy: Copy) -> None:
        if newest is None or not _is_still_good(newest.id):
            raise NothingGood("the newest good copy is no longer good")
        if not copy.is_good:
            raise Conflict("it was found missing or damaged meanwhile")
        backup = db.session.get(DatabaseBackup, copy.backup_id) if copy.backup_id else None
        if backup is not None and backup.is_pinned:
            raise Conflict("it was pinned meanwhile")

    db.session.commit()
    if newest is None or opened(store).size(mark_key(newest.filename)) is None:
        raise NothingGood("the newest good copy is not in the store")
    try:
        take_away(copy_id, refuse)
    except ObjectLocked as error:
        with writing() as session:
            session.get_one(Copy, copy_id).locked_until = now() + DAY
        raise Conflict(error.message) from error


def _is_still_good(copy_id: str) -> bool:
    """Locks the row too, so that it is not removed before our transaction ends."""
    copy = db.session.get(Copy, copy_id, with_for_update=True, populate_existing=True)
    return copy is not None and copy.is_good
