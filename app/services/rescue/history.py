"""The store of a lost panel becomes ours, and its copies get their rows.

A copy gets no row of a backup: that comes with its dump, when it is fetched.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from sqlalchemy import select

from app.encryption import Identity
from app.extensions import db, writing
from app.models import Copy, DatabaseBackup, Status, Store, Trigger
from app.models.types import now
from app.services.audit.acting import acting, tell
from app.services.backups.queue import FOREIGN
from app.services.databases.configured import Address
from app.services.databases.lookup import database_at
from app.services.rescue.inventory import FoundCopy, Inventory
from app.services.stores.credentials import PATIENCE, opened
from app.services.stores.lookup import find_store_at, get_store
from app.services.stores.service import (
    Asking,
    Changes,
    add_store,
    checked_address,
    edit_store,
    pause_store,
    unsaved_store,
)
from app.stores import Store as OpenStore

logger = logging.getLogger(__name__)

_BATCH = 500  # rows of one transaction


@dataclass(frozen=True)
class Source:
    """The store of a lost panel, as people name it."""

    url: str
    name: str  # that it gets, unless it is a store already
    credentials: Mapping[str, str] | None = field(default=None, repr=False)


def open_source(source: Source) -> OpenStore:
    """The store, which is not asked yet. Raises InvalidInput, StorageError."""
    changes = Changes(credentials=source.credentials)
    return opened(unsaved_store(source.url, changes), timeout=PATIENCE)


@acting
def adopt_store(
    source: Source,
    identities: Sequence[Identity],
    *,
    is_encrypted: bool,
    take_over: bool,
    by: str,
) -> Store:
    """The store as one of this panel, which it may be already.

    Where its copies are encrypted, new ones are too: to the identities; without any, the
    store is paused. Raises as `add_store`.
    """
    asking = Asking(take_over=take_over)
    known = find_store_at(checked_address(source.url))
    if known is not None:
        changes = Changes(credentials=source.credentials)
        return edit_store(known.name, changes, asking=asking, by=by)
    recipients = tuple(identity.recipient.key for identity in identities) if is_encrypted else ()
    changes = Changes(credentials=source.credentials, recipients=recipients)
    store = add_store(source.name, source.url, changes, asking=asking, by=by)
    return pause_store(store.name, by=by) if is_encrypted and not recipients else store


@acting
def rebuild_history(name: str, inventory: Inventory, *, by: str) -> int:
    """Give the copies in a store rows, where they have none; returns how many got one."""
    store = get_store(name)
    made = 0
    copies = inventory.all_copies()
    while batch := list(islice(copies, _BATCH)):
        ids = _database_ids(batch)
        with writing() as session:
            session.add_all(rows := _new_rows(store, batch, ids, by))
            made += len(rows)
    tell(subject=store.address, detail=f"{made} copies found")
    logger.info("history rebuilt store=%r copies=%d by=%r", name, made, by)
    return made


def _database_ids(batch: Sequence[FoundCopy]) -> dict[tuple[str, str], str]:
    """The ids of the databases that signed manifests name, which get rows."""
    places = {(copy.server, copy.database) for copy in batch if copy.is_signed}
    return {place: database_at(Address(*place)).id for place in places if place[0] != FOREIGN}


def _new_rows(
    store: Store, batch: Sequence[FoundCopy], ids: Mapping[tuple[str, str], str], by: str
) -> list[Copy]:
    names = [copy.filename for copy in batch]
    known = set(
        db.session.scalars(
            select(Copy.filename).where(Copy.store_id == store.id, Copy.filename.in_(names))
        )
    )
    chosen = select(DatabaseBackup.filename, DatabaseBackup.id, DatabaseBackup.sha256)
    rows = db.session.execute(chosen.where(DatabaseBackup.filename.in_(names)))
    backups = {(row.filename, row.sha256): row.id for row in rows}
    at = now()
    return [
        Copy(
            store_id=store.id,
            backup_id=backups.get((copy.filename, copy.dump_sha256)),
            filename=copy.filename,
            database_id=ids.get((copy.server, copy.database)) if copy.is_signed else None,
            dumped_at=datetime.fromisoformat(copy.dumped_at),
            key=copy.key,
            size=copy.size,
            sha256=copy.sha256,
            is_encrypted=copy.is_encrypted,
            status=Status.COMPLETED,
            trigger=Trigger.CLI,
            created_by=by[:255],
            finished_at=at,
        )
        for copy in {copy.filename: copy for copy in batch}.values()
        if copy.filename not in known
    ]
