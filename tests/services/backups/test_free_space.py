"""A backup that would not fit is refused before it begins."""

from datetime import timedelta

import pytest

from app.errors import StorageFull
from app.extensions import writing
from app.models import DatabaseBackup, Status, Trigger
from app.services.backups import service as backups
from app.services.backups.free_space import expected_size, refuse_without_space
from app.services.databases.configured import Address
from app.services.databases.lookup import database_at, default_database
from app.storages import LocalStorage

pytestmark = pytest.mark.usefixtures("context")

GIB = 1024**3


def test_a_database_that_was_never_dumped_is_refused_only_where_it_cannot_fit():
    assert expected_size(default_database(), 1000, "zstd:1") == 20


def test_the_next_dump_is_expected_to_be_as_the_last_one():
    backup = backups.create_backup(trigger=Trigger.CLI)
    assert backup.database_size is not None
    with writing() as session:
        row = session.get_one(DatabaseBackup, backup.id)
        row.size, row.database_size = 300, 1000
    database = default_database()
    assert expected_size(database, 2000, backup.compression) == 600
    assert expected_size(database, 2000, "gzip:9") == 300, "another compression tells less"
    assert expected_size(database_at(Address("other", "one")), 2000, backup.compression) == 40
    with writing() as session:
        row = session.get_one(DatabaseBackup, backup.id)
        row.created_at -= timedelta(days=1)
        session.add(
            DatabaseBackup(
                filename="backup_newer.dump",
                database_id=database.id,
                server=row.server,
                database=row.database,
                trigger=Trigger.CLI,
                status=Status.COMPLETED,
                compression=row.compression,
                size=100,
                database_size=1000,
            )
        )
    assert expected_size(database, 2000, backup.compression) == 200, "the newest counts"


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LocalStorage, "free_space", lambda _: GIB)
    refuse_without_space(default_database(), 50 * GIB, "zstd:1")
    with pytest.raises(StorageFull, match=r"1\.2 GiB are missing") as told:
        refuse_without_space(default_database(), 110 * GIB, "zstd:1")
    assert "2.2 GiB" in told.value.detail
    assert "1.0 GiB are free" in told.value.detail
    assert told.value.hint


def test_a_backup_without_room_fails_before_it_writes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LocalStorage, "free_space", lambda _: 0)
    monkeypatch.setattr(LocalStorage, "stage", lambda *_: pytest.fail("it began to write"))
    failed = backups.create_backup(trigger=Trigger.CLI)
    assert failed.status is Status.FAILED
    assert "are missing" in failed.error_message
