"""A store of each of two kinds, and backups to copy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.models import DatabaseBackup, Store, Trigger
from app.services.backups import service as backups
from app.services.stores import service as stores
from app.services.stores.credentials import opened
from app.services.stores.service import Changes
from app.stores import Store as OpenStore
from tests.stores.conftest import localbucket, prefix

__all__ = ["localbucket", "prefix"]


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
