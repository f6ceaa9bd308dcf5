"""Copies: made, marked last, read back, tried again, found missing, and fetched back."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from app.encryption import decrypted, make_identity
from app.errors import Conflict, InvalidInput, NotFound, StorageError, VerificationError
from app.extensions import db, writing
from app.models import Copy, DatabaseBackup, Loss, ReadBack, Status, Store, Trigger
from app.models.types import now
from app.services.backups import service as backups
from app.services.backups.listing import list_backups
from app.services.copies import queue, removal, run, service, transfer
from app.services.copies.fetch import fetch_copy
from app.services.copies.mark import mark_key, read_mark
from app.services.copies.verify import verify_copy, verify_what_is_due
from app.services.databases.configured import storage
from app.services.jobs import claims
from app.services.jobs.settling import settle_dead_jobs
from app.services.stores import service as stores
from app.services.stores.ownership import MARKER
from tests.conftest import on_catalogues
from tests.services.copies.conftest import AddStore, content, copied, inside, keys_in, made, spoil

pytestmark = on_catalogues("sqlite")


def test_a_new_backup_is_copied_marked_and_read_back(store: AddStore):
    older, nas, backup = made(), store(), made()
    copy = copied(backup)
    assert (copy.status, copy.loss, copy.size) == (Status.COMPLETED, None, backup.size)
    assert copy.verified_at is not None
    assert keys_in(nas) == {backup.filename, mark_key(backup.filename)}
    dump = content(nas, backup.filename)
    assert hashlib.sha256(dump).hexdigest() == backup.sha256 == copy.sha256
    mark = read_mark(inside(nas), backup.filename)
    assert mark.manifest_of_backup() == storage().manifest(backup.filename)
    queue.copy_what_is_due()
    assert service.list_copies(filename=older.filename) == []  # nobody asked for that
    assert service.places_of([older, backup]) == {older.filename: 0, backup.filename: 1}


def test_an_encrypted_copy_tells_nothing_without_its_key(store: AddStore):
    identity = make_identity()
    nas, backup = store(recipients=(identity.recipient.key,)), made()
    copy = copied(backup)
    assert (copy.key, copy.is_encrypted) == (f"{backup.filename}.age", True)
    stored = content(nas, copy.key)
    assert copy.sha256 == hashlib.sha256(stored).hexdigest() != backup.sha256
    plain = b"".join(decrypted([stored], [identity]))
    assert hashlib.sha256(plain).hexdigest() == backup.sha256
    mark = content(nas, mark_key(backup.filename)).decode()
    assert "customers" in (storage().manifest(backup.filename)).decode()
    assert "customers" not in mark
    assert backup.database not in mark


def test_a_dump_that_was_changed_is_never_copied_whole(store: AddStore):
    nas, backup = store(), made()
    path = storage().path_of(backup.filename)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    copy = copied(backup)
    assert copy.status is Status.FAILED
    assert copy.error_message == f"the dump {backup.filename} was changed"
    assert keys_in(nas) == set()
    assert copy.next_attempt_at is not None
    path.write_bytes(whole)
    with writing() as session:
        session.get_one(Copy, copy.id).next_attempt_at = now()
    assert copied(backup).is_good


def test_a_copy_whose_runner_died_before_it_said_so_is_found_whole(
    store: AddStore, monkeypatch: pytest.MonkeyPatch
):
    nas, backup = store(), made()

    def killed_before(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(run, "_record_success", killed_before)
        with pytest.raises(KeyboardInterrupt):
            copied(backup)
    (copy,) = service.list_copies()
    mark = content(nas, mark_key(backup.filename))
    assert copy.is_pending
    with writing() as session:
        session.get_one(Copy, copy.id).claimed_by = f"{claims.runner()}1"  # another process
    monkeypatch.setattr(claims, "is_gone", lambda _: True)
    settle_dead_jobs()
    assert service.get_copy(copy.id).status is Status.FAILED
    with writing() as session:
        session.get_one(Copy, copy.id).next_attempt_at = now()
    copy = copied(backup)
    assert copy.is_good
    assert copy.log == "found whole in the store"
    assert content(nas, mark_key(backup.filename)) == mark

    with writing() as session:  # its row is lost, and its object damaged meanwhile
        session.delete(session.get_one(Copy, copy.id))
    spoil(nas, copy.key)
    failed = copied(backup)
    assert (failed.status, failed.error_message) == (
        Status.FAILED,
        f"the copy of {backup.filename} was changed",
    )
    with writing() as session:
        session.get_one(Copy, failed.id).next_attempt_at = now()
    assert copied(backup).is_good


def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_that_counts(
    store: AddStore, monkeypatch: pytest.MonkeyPatch
):
    nas, backup = store(), made()

    def cut(blocks: Iterator[bytes], *_: object) -> Iterator[bytes]:
        yield next(iter(blocks))[:100]
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(transfer, "limited", cut)
        with pytest.raises(KeyboardInterrupt):
            copied(backup)
    (copy,) = service.list_copies()
    assert (copy.status, copy.error_message) == (Status.FAILED, "the copy was interrupted")
    assert keys_in(nas) == set()


def test_a_copy_that_differs_is_damaged_and_made_again(store: AddStore):
    nas, backup = store(), made()
    copy = copied(backup)
    spoil(nas, copy.key)
    assert verify_copy(copy.id).loss is Loss.DAMAGED
    assert service.places_of([backup]) == {backup.filename: 0}
    assert copied(backup).is_good
    assert content(nas, copy.key) == storage().path_of(backup.filename).read_bytes()
    inside(nas).delete(copy.key)
    assert verify_copy(copy.id).loss is Loss.MISSING
    assert copied(backup).is_good
    assert verify_copy(copy.id).loss is None


def test_a_mark_that_lies_is_not_believed(store: AddStore):
    nas, backup = store(), made()
    copy = copied(backup)
    mark = json.loads(content(nas, mark_key(backup.filename)))
    for lie in ({"key": "../../etc/passwd"}, {"filename": "backup_x.dump"}, {"stored": None}):
        inside(nas).put(mark_key(backup.filename), [json.dumps(mark | lie).encode()])
        assert verify_copy(copy.id).loss is Loss.DAMAGED
    storage().delete(backup.filename)
    with pytest.raises(VerificationError):
        fetch_copy(copy.id, by="ann")
    assert not storage().has(backup.filename)


def test_another_panel_s_copy_of_the_same_name_is_kept(store: AddStore):
    nas, backup = store(), made()
    copied(backup)
    theirs = content(nas, mark_key(backup.filename))
    with writing() as session:
        session.delete(session.get_one(Copy, service.list_copies()[0].id))
        session.get_one(DatabaseBackup, backup.id).sha256 = "0" * 64
    copy = copied(backup)
    assert copy.status is Status.FAILED
    assert "has another copy named" in copy.error_message
    assert content(nas, mark_key(backup.filename)) == theirs


def test_nothing_is_copied_to_another_panel_s_store(store: AddStore):
    nas, backup = store(), made()
    inside(nas).put(MARKER, [b'{"panel": "another", "host": "elsewhere"}'])
    copy = copied(backup)
    assert copy.error_message == "the store belongs to another panel on elsewhere"
    assert keys_in(nas) == set()
    inside(nas).delete(MARKER)  # as in a store that was saved without asking it
    with writing() as session:
        session.get_one(Copy, copy.id).next_attempt_at = now()
    assert copied(backup).is_good
    assert inside(nas).size(MARKER) is not None


def test_a_lost_dump_is_fetched_back_and_checked(store: AddStore):
    nas, backup = store(), made()
    copy = copied(backup)
    with pytest.raises(Conflict, match="is here already"):
        fetch_copy(copy.id, by="ann")
    whole, manifest = (
        storage().path_of(backup.filename).read_bytes(),
        storage().manifest(backup.filename),
    )
    storage().delete(backup.filename)
    assert fetch_copy(copy.id, by="ann") == backup.filename
    assert storage().path_of(backup.filename).read_bytes() == whole
    assert storage().manifest(backup.filename) == manifest
    storage().delete(backup.filename)
    spoil(nas, copy.key)
    with pytest.raises(VerificationError, match="was changed"):
        fetch_copy(copy.id, by="ann")
    assert not storage().has(backup.filename)


def test_a_copy_outlives_its_backup_and_brings_it_back(store: AddStore):
    store()
    backup = made()
    copy = copied(backup)
    filename = backup.filename
    backups.delete_backup(filename)
    assert list_backups().backups == []
    assert service.get_copy(copy.id).backup_id is None
    fetch_copy(copy.id, by="ann")
    (again,) = list_backups().backups
    assert (again.filename, again.foreign, again.is_completed) == (filename, False, True)
    assert service.get_copy(copy.id).backup_id == again.id


def test_an_encrypted_copy_is_fetched_with_its_key_alone(store: AddStore):
    identity = make_identity()
    store(recipients=(identity.recipient.key,))
    backup = made()
    copy = copied(backup)
    storage().delete(backup.filename)
    with pytest.raises(InvalidInput, match="the copy is encrypted"):
        fetch_copy(copy.id, by="ann")
    with pytest.raises(InvalidInput):
        fetch_copy(copy.id, by="ann", identities=[make_identity()])
    assert not storage().has(backup.filename)
    fetch_copy(copy.id, by="ann", identities=[identity])
    assert hashlib.sha256(storage().path_of(backup.filename).read_bytes()).hexdigest() == (
        backup.sha256
    )


def test_a_failure_is_tried_again_later_and_later(store: AddStore, monkeypatch):
    nas, backup = store(), made()
    with writing() as session:
        session.get_one(Store, nas.id).address = "file:///nowhere/at/all"
    waits = []
    for _ in range(3):
        copy = copied(backup)
        assert copy.status is Status.FAILED
        assert copy.next_attempt_at is not None
        waits.append(round((copy.next_attempt_at - now()) / timedelta(minutes=1)))
        with writing() as session:
            session.get_one(Copy, copy.id).next_attempt_at = now()
    assert waits == [1, 5, 15]
    with writing() as session:
        session.get_one(Store, nas.id).address = nas.address
    assert copied(backup).is_good


def test_a_cancelled_copy_is_not_tried_again(store: AddStore):
    store()
    backup = made()
    queue.copy_what_is_due()
    (copy,) = service.list_copies()
    service.cancel_copy(copy.id, by="ann")
    copy = service.get_copy(copy.id)
    assert (copy.error_message, copy.next_attempt_at) == ("cancelled by ann", None)
    with pytest.raises(Conflict, match="ended already"):
        service.cancel_copy(copy.id, by="ann")
    again = service.copy_backup(backup.filename, "nas", trigger=Trigger.API, by="bob")
    queue.run_copy.call_local(again.id)
    assert service.get_copy(again.id).is_good
    with pytest.raises(Conflict, match="is in nas already"):
        service.copy_backup(backup.filename, "nas", trigger=Trigger.API, by="bob")


def test_a_removed_copy_leaves_nothing_in_the_store(store: AddStore):
    nas, backup = store(), made()
    copy = copied(backup)
    service.remove_copy(copy.id, by="ann")
    assert keys_in(nas) == set()
    assert storage().has(backup.filename)
    with pytest.raises(NotFound):
        service.get_copy(copy.id)


def test_only_chosen_databases_are_copied_and_none_while_paused(store: AddStore, shop):
    nas = store()
    stores.pause_store("nas", by="ann")
    backup = made()
    queue.copy_what_is_due()
    assert service.list_copies() == []
    with pytest.raises(Conflict, match="is paused"):
        service.copy_backup(backup.filename, "nas", trigger=Trigger.API, by="ann")
    stores.resume_store("nas", by="ann")
    with writing() as session:
        session.get_one(Store, nas.id).takes_all = False
    queue.copy_what_is_due()
    assert service.list_copies() == []


def test_copies_are_read_back_in_turn_within_the_budget(store: AddStore):
    nas = store(read_back=ReadBack.NEVER)
    first, second = copied(made()), copied(made())
    assert first.verified_at is None
    assert verify_what_is_due() is None  # they are new
    with writing() as session:
        for copy, days in ((first, 50), (second, 40)):
            session.get_one(Copy, copy.id).finished_at = now() - timedelta(days=days)
    assert verify_what_is_due() == first.filename
    assert verify_what_is_due() == second.filename
    assert verify_what_is_due() is None
    with writing() as session:
        row = session.get_one(Copy, first.id)
        row.verified_at = now() - timedelta(days=50)
        session.get_one(Copy, second.id).size = 2**40  # the budget of this day is spent
    assert verify_what_is_due() is None
    assert db.session.get_one(Store, nas.id)


def test_a_store_that_cannot_be_asked_proves_nothing(store: AddStore):
    nas = store(read_back=ReadBack.NEVER)
    copy = copied(made())
    with writing() as session:
        session.get_one(Copy, copy.id).finished_at = now() - timedelta(days=50)
        session.get_one(Store, nas.id).address = "s3://nowhere/x?endpoint=http://127.0.0.1:1"
    assert verify_what_is_due() is None
    assert service.get_copy(copy.id).verified_at is None
    assert service.get_copy(copy.id).loss is None
    with writing() as session:
        session.get_one(Store, nas.id).address = nas.address
    assert verify_what_is_due() is None  # it is asked again in an hour, and others before it


def test_a_removal_that_was_killed_is_finished_later(
    store: AddStore, monkeypatch: pytest.MonkeyPatch
):
    nas, backup = store(), made()
    copy = copied(backup)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(inside(nas)), "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            service.remove_copy(copy.id, by="ann")
    assert not service.get_copy(copy.id).is_good  # whatever is left of it
    assert service.places_of([backup]) == {backup.filename: 0}
    removal.finish_removals()
    assert keys_in(nas) != set()  # its process may still live
    with writing() as session:
        session.get_one(Copy, copy.id).removing_since = now() - timedelta(hours=1)
    removal.finish_removals()
    assert keys_in(nas) == set()
    with pytest.raises(NotFound):
        service.get_copy(copy.id)


def test_a_copy_that_the_store_does_not_let_go_counts_again(
    store: AddStore, monkeypatch: pytest.MonkeyPatch
):
    nas, backup = store(), made()
    copy = copied(backup)

    def refused(*_: object) -> None:
        raise StorageError("access denied")

    with monkeypatch.context() as patched:
        patched.setattr(type(inside(nas)), "delete", refused)
        with pytest.raises(StorageError):
            service.remove_copy(copy.id, by="ann")
    assert service.get_copy(copy.id).is_good
