"""Copies encrypted anew, after the recipients of their store were changed."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from app.encryption import Identity, decrypted, make_identity
from app.errors import Conflict, InvalidInput, VerificationError
from app.models import Copy, Loss, Store
from app.services.backups import service as backups
from app.services.copies import marked, reencrypt, service
from app.services.copies.mark import mark_key, object_key
from app.services.copies.reencrypt import list_outdated, reencrypt_copy
from app.services.copies.tidy import tidy_store
from app.services.copies.verify import verify_copy
from app.services.databases.configured import storage
from app.services.stores import service as stores
from app.services.stores.service import Changes
from tests.conftest import on_catalogues
from tests.services.copies.conftest import AddStore, content, copied, inside, keys_in, made

pytestmark = on_catalogues("sqlite")


def change_recipients(*identities: Identity) -> None:
    keys = tuple(identity.recipient.key for identity in identities)
    stores.edit_store("nas", Changes(recipients=keys), by="ann")


def is_encrypted_to(identity: Identity, store: Store, copy: Copy, dump: bytes) -> bool:
    try:
        return b"".join(decrypted([content(store, copy.key)], [identity])) == dump
    except InvalidInput:
        return False


def test_an_old_copy_is_encrypted_to_new_recipients_alone(store: AddStore):
    old, new = make_identity(), make_identity()
    nas, backup = store(recipients=(old.recipient.key,)), made()
    dump = storage().path_of(backup.filename).read_bytes()
    copy = copied(backup)
    old_key = copy.key
    assert list_outdated("nas") == []
    backups.delete_backup(backup.filename)
    change_recipients(new)
    assert [row.id for row in list_outdated("nas")] == [copy.id]
    assert list_outdated("nas", "backup_of_another") == []
    read: list[int] = []
    assert reencrypt_copy(copy.id, by="ann", identities=[old], on_block=read.append)
    assert sum(read) > len(dump)
    again = service.get_copy(copy.id)
    assert keys_in(nas) == {again.key, mark_key(backup.filename)}
    assert again.key != old_key
    assert is_encrypted_to(new, nas, again, dump)
    assert not is_encrypted_to(old, nas, again, dump)
    assert list_outdated("nas") == []
    assert verify_copy(copy.id).is_good


def test_a_plain_copy_is_encrypted_afterwards(store: AddStore):
    identity = make_identity()
    nas, backup = store(), made()
    dump = storage().path_of(backup.filename).read_bytes()
    copy = copied(backup)
    with pytest.raises(InvalidInput, match="copies in nas are not encrypted"):
        list_outdated("nas")
    change_recipients(identity)
    assert reencrypt_copy(copy.id, by="ann")
    again = service.get_copy(copy.id)
    assert again.is_encrypted
    assert keys_in(nas) == {again.key, mark_key(backup.filename)}
    assert is_encrypted_to(identity, nas, again, dump)


def test_without_its_key_it_stays_as_it_is(store: AddStore):
    nas = store(recipients=(make_identity().recipient.key,))
    copy = copied(made())
    before = keys_in(nas)
    change_recipients(make_identity())
    for identities in ([], [make_identity()]):
        with pytest.raises(InvalidInput):
            reencrypt_copy(copy.id, by="ann", identities=identities)
    assert keys_in(nas) == before
    assert verify_copy(copy.id).is_good


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "where", ["upload", "read_back", "announce_replacement", "adopt_replacement"]
)
def test_a_kill_at_each_step_leaves_one_whole_copy(
    store: AddStore, where: str, monkeypatch: pytest.MonkeyPatch
):
    old, new = make_identity(), make_identity()
    nas, backup = store(recipients=(old.recipient.key,)), made()
    dump = storage().path_of(backup.filename).read_bytes()
    copy = copied(backup)
    change_recipients(new)
    with monkeypatch.context() as killed:
        killed.setattr(reencrypt, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            reencrypt_copy(copy.id, by="ann", identities=[old])
    assert verify_copy(copy.id).is_good
    now_there = service.get_copy(copy.id)
    is_new = where == "adopt_replacement"  # its mark is there already
    assert is_encrypted_to(new if is_new else old, nas, now_there, dump)
    for row in list_outdated("nas"):
        reencrypt_copy(row.id, by="ann", identities=[old])
    assert verify_copy(copy.id).is_good
    tidy_store(nas, left_for=timedelta(0))
    again = service.get_copy(copy.id)
    assert keys_in(nas) == {again.key, mark_key(backup.filename)}
    assert is_encrypted_to(new, nas, again, dump)


def test_a_mark_that_lies_keeps_its_objects_and_not_the_rest_from_being_tidied(store: AddStore):
    nas = store()
    lies, lone = (f"backup_2026-01-0{day}T00-00-00-000Z.dump" for day in (1, 2))
    keys = {object_key(lies, is_encrypted=True, token=token) for token in ("", "0a1b2c3d")}
    for key in {*keys, lone}:
        inside(nas).put(key, [b"a dump"])
    inside(nas).put_new(mark_key(lies), b"{}")
    assert tidy_store(nas, left_for=timedelta(0)) == 1
    assert keys_in(nas) == {*keys, mark_key(lies)}


def test_a_copy_that_is_removed_meanwhile_does_not_come_back(
    store: AddStore, monkeypatch: pytest.MonkeyPatch
):
    old, new = make_identity(), make_identity()
    nas = store(recipients=(old.recipient.key,))
    change_recipients(new)
    for where in ("announce_replacement", "adopt_replacement"):
        stores.edit_store("nas", Changes(recipients=(old.recipient.key,)), by="ann")
        copy = copied(made())
        change_recipients(new)
        real = getattr(marked, where)

        def removed_before(
            copy_id: str, *values: object, real: Callable[..., object] = real
        ) -> object:
            service.remove_copy(copy_id, by="bob")
            return real(copy_id, *values)

        with monkeypatch.context() as patched:
            patched.setattr(reencrypt, where, removed_before)
            with pytest.raises(Conflict, match="meanwhile"):
                reencrypt_copy(copy.id, by="ann", identities=[old])
        assert keys_in(nas) == set()


def test_two_at_once_are_not_in_each_other_s_way(store: AddStore, monkeypatch):
    old, new = make_identity(), make_identity()
    nas = store(recipients=(old.recipient.key,))
    copy = copied(made())
    change_recipients(new)
    real = reencrypt.upload

    def another_first(*values: object) -> object:
        monkeypatch.setattr(reencrypt, "upload", real)
        mark = real(*values)
        assert reencrypt_copy(copy.id, by="bob", identities=[old])
        return mark

    monkeypatch.setattr(reencrypt, "upload", another_first)
    with pytest.raises(Conflict, match="was changed meanwhile"):
        reencrypt_copy(copy.id, by="ann", identities=[old])
    assert verify_copy(copy.id).is_good
    assert keys_in(nas) == {service.get_copy(copy.id).key, mark_key(copy.filename)}


def test_a_mark_that_nobody_announced_is_not_believed(store: AddStore):
    old, new = make_identity(), make_identity()
    nas = store(recipients=(old.recipient.key,))
    copy = copied(made())
    mark = content(nas, mark_key(copy.filename))
    change_recipients(new)
    assert reencrypt_copy(copy.id, by="ann", identities=[old])
    inside(nas).put(mark_key(copy.filename), [mark])  # as somebody who has kept the old one
    with pytest.raises(VerificationError, match="was changed"):
        reencrypt_copy(copy.id, by="ann", identities=[old, new])
    assert verify_copy(copy.id).loss is Loss.DAMAGED
