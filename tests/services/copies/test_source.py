"""Copies made from other copies, where the dump is gone."""

from pathlib import Path

import pytest

from app.encryption import make_identity
from app.models import Copy, DatabaseBackup, Loss, Status, Trigger
from app.services.backups import service as backups
from app.services.copies import queue, service
from app.services.copies.mark import read_mark
from app.services.copies.verify import verify_copy
from app.services.databases.configured import storage
from app.services.stores import service as stores
from app.services.stores.keys import make_drill_key
from app.services.stores.service import Changes
from tests.conftest import on_catalogues
from tests.services.copies.conftest import AddStore, content, due_again, inside, made, spoil

pytestmark = on_catalogues("sqlite")


@pytest.fixture
def vault(context: None, tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    folder.mkdir()
    stores.add_store("vault", f"file://{folder}", by="ann")


def copied(backup: DatabaseBackup, store: str) -> Copy:
    """Make the copy in this store that is due, as a worker does."""
    queue.copy_what_is_due()
    copy = service.get_copy_in(backup.filename, store)
    queue.run_copy.call_local(copy.id)
    return service.get_copy(copy.id)


@pytest.mark.usefixtures("vault")
def test_a_damaged_copy_is_made_again_from_another_store(store: AddStore):
    nas, backup = store(), made()
    whole, manifest = (
        storage().path_of(backup.filename).read_bytes(),
        storage().manifest(backup.filename),
    )
    copy, _ = copied(backup, "nas"), copied(backup, "vault")
    backups.delete_backup(backup.filename)
    spoil(nas, copy.key)
    assert verify_copy(copy.id).loss is Loss.DAMAGED
    assert copied(backup, "nas").is_good
    assert content(nas, copy.key) == whole
    assert read_mark(inside(nas), backup.filename).manifest_of_backup() == manifest


@pytest.mark.usefixtures("vault")
def test_a_copy_that_is_damaged_too_is_no_source(store: AddStore):
    nas, backup = store(), made()
    copy, other = copied(backup, "nas"), copied(backup, "vault")
    storage().delete(backup.filename)
    for row, name in ((copy, "nas"), (other, "vault")):
        spoil(stores.get_store(name), row.key)
    assert verify_copy(copy.id).loss is Loss.DAMAGED
    failed = copied(backup, "nas")
    assert failed.error_message == f"the copy of {backup.filename} in vault was changed"
    assert not failed.is_good
    assert inside(nas).size(f"{backup.filename}.json") is None


def test_without_dump_and_copy_it_waits_for_nothing(store: AddStore):
    nas, backup = store(), made()
    copy = copied(backup, "nas")
    backups.delete_backup(backup.filename)
    inside(nas).delete(copy.key)
    assert verify_copy(copy.id).loss is Loss.MISSING
    queue.copy_what_is_due()
    assert service.get_copy(copy.id).status is Status.COMPLETED


@pytest.mark.usefixtures("vault")
def test_an_encrypted_copy_is_a_source_with_a_drill_key_alone(store: AddStore):
    nas = store(recipients=(make_identity().recipient.key,))
    first = made()
    copied(first, "nas")
    make_drill_key("nas", by="ann")
    second = made()
    copy = copied(second, "nas")
    for backup in (first, second):
        storage().delete(backup.filename)
    failed = copied(first, "vault")
    assert failed.error_message == (
        f"the dump {first.filename} is not here, and no copy of it can be read"
    )
    assert copied(second, "vault").is_good
    assert content(nas, copy.key).startswith(b"age-encryption.org/")
    assert content(stores.get_store("vault"), second.filename).startswith(b"PGDMP")


def test_a_copy_of_a_lost_dump_can_be_asked_for(store: AddStore, tmp_path: Path):
    store()
    backup = made()
    copied(backup, "nas")
    storage().delete(backup.filename)
    (tmp_path / "late").mkdir()
    stores.add_store("late", f"file://{tmp_path / 'late'}", by="ann")
    service.copy_backup(backup.filename, "late", trigger=Trigger.API, by="ann")
    assert copied(backup, "late").is_good


def test_with_a_drill_key_a_copy_is_verified_decrypted(store: AddStore):
    nas = store(recipients=(make_identity().recipient.key,))
    older = copied(made(), "nas")
    make_drill_key("nas", by="ann")
    copy = copied(made(), "nas")
    read = []
    assert verify_copy(copy.id, read.append).loss is None
    mark = read_mark(inside(nas), copy.filename)
    assert sum(read) == mark.dump.size < mark.stored.size
    assert verify_copy(older.id).loss is None  # by its hash: no key of ours fits
    spoil(nas, copy.key)
    assert verify_copy(copy.id).loss is Loss.DAMAGED
    stores.edit_store("nas", Changes(recipients=()), by="ann")
    due_again(copy)
    assert copied(made(), "nas").is_good
