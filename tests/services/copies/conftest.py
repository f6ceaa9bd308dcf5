"""A store of each of two kinds, and backups to copy."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.extensions import writing
from app.models import Copy, DatabaseBackup, Status, Store, Trigger
from app.models.backup import filename_of
from app.models.types import now
from app.services.backups import service as backups
from app.services.copies import queue, service
from app.services.copies.mark import mark_key
from app.services.databases.lookup import default_database
from app.services.stores import service as stores
from app.services.stores.credentials import opened
from app.services.stores.ownership import MARKER
from app.services.stores.service import Changes
from app.stores import Store as OpenStore
from tests.stores.conftest import localbucket, prefix

__all__ = ["localbucket", "prefix"]


AddStore = Callable[..., Store]


@pytest.fixture(params=["file", "s3"])
def store(
    request: pytest.FixtureRequest, context: None, tmp_path: Path, prefix: str
) -> Callable[..., Store]:
    """Add a store named `nas`, of each kind in turn."""

    def add(**changes: object) -> Store:
        if request.param == "file":
            folder = tmp_path / "nas"
            folder.mkdir()
            return stores.add_store("nas", f"file://{folder}", Changes(**changes), by="ann")
        place = request.getfixturevalue("localbucket")
        given = Changes(credentials=place.credentials, **changes)
        return stores.add_store("nas", place.url(prefix), given, by="ann")

    return add


def made() -> DatabaseBackup:
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    assert backup.is_completed, backup.error_message
    return backup


def inside(store: Store) -> OpenStore:
    return opened(store)


def lying(store: Store, ago: timedelta, **values: Any) -> str:
    """A good copy whose backup is gone; its name."""
    moment = now() - ago
    name = filename_of(moment)
    inside(store).put(name, [b"a dump"])
    inside(store).put_new(mark_key(name), b"{}")
    row = {
        "store_id": store.id,
        "filename": name,
        "key": name,
        "database_id": default_database().id,
        "dumped_at": moment,
        "finished_at": moment,
        "status": Status.COMPLETED,
        "trigger": Trigger.SCHEDULE,
        "size": 10,
    }
    with writing() as session:
        session.add(Copy(**row | values))
    return name


def copied(backup: DatabaseBackup) -> Copy:
    """Make the one copy that is due, as a worker does."""
    queue.copy_what_is_due()
    (copy,) = service.list_copies(filename=backup.filename)
    queue.run_copy.call_local(copy.id)
    return service.get_copy(copy.id)


def keys_in(store: Store) -> set[str]:
    return {found.key for found in inside(store).list()} - {MARKER}


def content(store: Store, key: str) -> bytes:
    return b"".join(inside(store).read(key))


def spoil(store: Store, key: str) -> None:
    changed = bytearray(content(store, key))
    changed[len(changed) // 2] ^= 1
    inside(store).put(key, [bytes(changed)])


def due_again(copy: Copy) -> None:
    """Let its next attempt be due now."""
    with writing() as session:
        session.get_one(Copy, copy.id).next_attempt_at = now()
