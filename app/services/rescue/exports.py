"""Export the catalogue to the stores that take it: each day, and when somebody asks.

An export is written as a copy is: encrypted where the store has recipients, read back, and
its mark last.
"""

import heapq
import logging
from datetime import timedelta

from sqlalchemy import ColumnElement, Select, exists, or_, select, update

from app.errors import AppError, Conflict, Interrupted, ObjectLocked
from app.extensions import ask, db, update_alone
from app.models import Store, TakesCatalogue
from app.models.types import now
from app.services.audit.acting import acting, tell
from app.services.catalogue.portable import snapshot
from app.services.copies.mark import Mark, Measured, mark_key, object_key
from app.services.copies.transfer import OnBlock, Outgoing, blocks_of, read_back, reported, upload
from app.services.rescue.marks import filename_of, make_manifest, marked, moment_in, own_folder
from app.services.stores.credentials import opened
from app.services.stores.lookup import get_store
from app.storages import sha256_of
from app.stores import Store as OpenStore

logger = logging.getLogger(__name__)

KEPT = 7  # exports of this panel in a store
_EVERY = timedelta(days=1)
_AGAIN = timedelta(hours=1)  # after an attempt that failed, or was killed
_LEFTOVER = timedelta(days=1)  # after which an export without a mark never gets one


@acting
def export_catalogue(name: str, *, by: str, on_block: OnBlock = lambda _: None) -> Mark:
    """Export the catalogue to a store now.

    `on_block` gets the size of each block that is sent or read back. Raises NotFound, Conflict
    if the store does not take it, StorageError.
    """
    store = get_store(name)
    if not store.gets_catalogue:
        raise Conflict(
            f"{name} does not take the catalogue",
            detail="It has the hashes of passwords, and would not be encrypted there."
            if store.takes_catalogue is TakesCatalogue.ENCRYPTED
            else "",
            hint=f"Encrypt its copies: flask store recovery-key {name}; or allow it:"
            f" flask store edit {name} --catalogue always",
        )
    mark = _attempt(store, on_block)
    tell(subject=name, detail=mark.filename)
    logger.info("catalogue exported store=%r key=%s by=%r", name, mark.key, by)
    return mark


def export_what_is_due(on_block: OnBlock = lambda _: None) -> None:
    """Export the catalogue to the stores that have none of the last day.

    One cheap statement if there is nothing to do. Any number of workers may do this at once.
    Raises Interrupted if `on_block` does: it is due again then.
    """
    if not ask(select(exists(_due())))[0][0]:
        return
    for (name,) in ask(_due()):
        taken = update(Store).where(Store.name == name, _is_due())
        if not update_alone(taken.values(export_due_at=now() + _AGAIN)):
            continue  # another worker was quicker
        try:
            mark = _attempt(get_store(name), on_block)
        except Interrupted:
            update_alone(update(Store).where(Store.name == name).values(export_due_at=None))
            raise
        except AppError as error:
            logger.warning("catalogue not exported store=%r error=%r", name, error.message)
        else:
            logger.info("catalogue exported store=%r key=%s", name, mark.key)


def _due() -> Select[str]:
    active = Store.is_paused.is_(False)
    return select(Store.name).where(Store.getting_catalogue(), active, _is_due())


def _is_due() -> ColumnElement[bool]:
    return or_(Store.export_due_at.is_(None), Store.export_due_at <= now())


def _attempt(store: Store, on_block: OnBlock) -> Mark:
    """Export it, and keep with the store how that ended."""
    row = update(Store).where(Store.id == store.id)
    db.session.commit()  # no transaction stays open meanwhile
    try:
        mark = _export(store, opened(store), on_block)
    except Interrupted:
        raise  # it says nothing about the store
    except AppError as error:
        update_alone(row.values(export_error=error.message, export_due_at=now() + _AGAIN))
        raise
    at = now()
    update_alone(row.values(exported_at=at, export_due_at=at + _EVERY, export_error=""))
    return mark


def _export(store: Store, target: OpenStore, on_block: OnBlock) -> Mark:
    filename = filename_of(now())
    with snapshot() as file:
        sha256 = sha256_of(file)
        measured = Measured(file.tell(), sha256)
        file.seek(0)
        manifest = make_manifest(filename, measured)
        blocks = reported(blocks_of(file), on_block)
        export = Outgoing(filename, blocks, measured, manifest, "the catalogue")
        mark = upload(target, store, export, lambda: on_block(0))
    read_back(target, mark, "the export", on_block)
    target.put_new(mark_key(filename), mark.written())
    _prune(target, filename)
    return mark


def _prune(target: OpenStore, made: str) -> None:
    """Remove our old exports, and what killed ones have left; a locked one stays."""
    kept = {made, *heapq.nlargest(KEPT, marked(target.list(own_folder())))}
    latest = now() - _LEFTOVER
    for item in target.list(own_folder()):
        name = item.key.removesuffix(".json").removesuffix(".age")
        if not moment_in(name) or name in kept:
            continue
        if item.key == mark_key(name) or item.modified < latest:
            try:
                for key in (mark_key(name), name, object_key(name, is_encrypted=True)):
                    target.delete(key)  # the mark first: from then on it does not count
            except ObjectLocked as error:
                logger.info("old export kept key=%s reason=%r", item.key, error.message)
