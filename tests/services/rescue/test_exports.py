"""Exports of the catalogue: who takes them, when they are due, and that none counts half."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from app.config import settings
from app.encryption import decrypted, make_identity
from app.errors import AppError, Conflict, Interrupted, ObjectLocked
from app.extensions import writing
from app.models import Store, TakesCatalogue
from app.models.types import now
from app.services.catalogue.files import private_file
from app.services.copies.mark import mark_key, read_mark
from app.services.rescue import exports
from app.services.rescue.exports import KEPT, export_catalogue, export_what_is_due
from app.services.rescue.marks import FOLDER, filename_of, is_signed, marked
from app.services.stores import service as stores
from app.services.stores.lookup import get_store
from app.services.stores.service import Changes
from tests.conftest import on_catalogues
from tests.services.copies.conftest import inside, localbucket, prefix, store

__all__ = ["localbucket", "prefix", "store"]

on_sqlite = on_catalogues("sqlite")  # where many exports are quick, and the rest is the same
in_a_folder = pytest.mark.parametrize("store", ["file"], indirect=True)

AddStore = Callable[..., Store]


def names_in(store: Store) -> list[str]:
    return sorted(marked(inside(store).list(FOLDER)))


def keys_in(store: Store) -> list[str]:
    return sorted(item.key for item in inside(store).list(FOLDER))


def make_due() -> None:
    with writing() as session:
        session.query(Store).update({"export_due_at": now()})


def left_beside_the_catalogue() -> list[Path]:
    return list(settings().instance_dir.glob("catalogue.db.export-*"))


def admins_in(content: bytes, folder: Path) -> list[str]:
    path = folder / "exported.db"
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as exported:
        return [name for (name,) in exported.execute("SELECT username FROM admins")]


def test_a_store_with_recipients_gets_an_encrypted_catalogue(store: AddStore, tmp_path: Path):
    identity = make_identity()
    nas = store(recipients=(identity.recipient.key,))
    export_what_is_due()
    (name,) = names_in(nas)
    mark = read_mark(inside(nas), name)
    assert (mark.is_encrypted, mark.key) == (True, f"{name}.age")
    content = b"".join(inside(nas).read(mark.key))
    assert b"SQLite format" not in content
    assert admins_in(b"".join(decrypted([content], [identity])), tmp_path) == ["admin"]
    assert is_signed(mark, [identity])
    row = get_store("nas")
    assert (row.exported_at is not None, row.export_error) == (True, "")
    assert left_beside_the_catalogue() == []
    export_what_is_due()
    assert names_in(nas) == [name]
    make_due()
    export_what_is_due()
    assert len(names_in(nas)) == 2


@in_a_folder
def test_an_open_store_gets_it_only_if_that_is_said(store: AddStore, tmp_path: Path):
    nas = store()
    export_what_is_due()
    with pytest.raises(Conflict, match="does not take the catalogue") as refused:
        export_catalogue("nas", by="ann")
    assert "hashes of passwords" in refused.value.detail
    assert keys_in(nas) == []
    stores.edit_store("nas", Changes(takes_catalogue=TakesCatalogue.ALWAYS), by="ann")
    mark = export_catalogue("nas", by="ann")
    assert admins_in(b"".join(inside(nas).read(mark.key)), tmp_path) == ["admin"]
    stores.edit_store("nas", Changes(takes_catalogue=TakesCatalogue.NEVER), by="ann")
    make_due()
    export_what_is_due()
    assert names_in(nas) == [mark.filename]


@in_a_folder
def test_a_paused_store_gets_none(store: AddStore):
    nas = store(takes_catalogue=TakesCatalogue.ALWAYS)
    stores.pause_store("nas", by="ann")
    export_what_is_due()
    assert keys_in(nas) == []


@on_sqlite
@in_a_folder
def test_only_the_newest_are_kept_and_those_of_others(
    store: AddStore, monkeypatch: pytest.MonkeyPatch
):
    nas = store(takes_catalogue=TakesCatalogue.ALWAYS)
    others = f"{FOLDER}another/catalogue_2020-01-01T00-00-00-000Z.db"
    for key in (others, mark_key(others), f"{FOLDER}notes.txt"):
        inside(nas).put(key, [b"theirs"])
    made = [export_catalogue("nas", by="ann").filename for _ in range(KEPT + 2)]
    ours = [name for name in names_in(nas) if "another" not in name]
    assert ours == made[2:]
    assert len(keys_in(nas)) == 2 * KEPT + 3
    monkeypatch.setattr(type(inside(nas)), "delete", refuse_to_delete)
    assert export_catalogue("nas", by="ann").filename in names_in(nas)  # locked ones stay


def refuse_to_delete(_: object, key: str) -> None:
    raise ObjectLocked(f"{key} is locked")


def test_a_killed_export_leaves_nothing_that_counts(
    store: AddStore, monkeypatch: pytest.MonkeyPatch
):
    nas = store(takes_catalogue=TakesCatalogue.ALWAYS)

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_what_is_due(killed)
    assert keys_in(nas) == []
    with monkeypatch.context() as cut:
        cut.setattr(exports, "read_back", lambda *_: killed(0))
        with pytest.raises(KeyboardInterrupt):
            export_catalogue("nas", by="ann")
    assert names_in(nas) == []
    (left,) = keys_in(nas)
    export_what_is_due()
    assert names_in(nas) == []  # an hour later
    make_due()
    export_what_is_due()
    assert len(names_in(nas)) == 1
    assert left in keys_in(nas)
    monkeypatch.setattr(exports, "_LEFTOVER", timedelta(0))  # as if a day had passed
    export_catalogue("nas", by="ann")
    assert left not in keys_in(nas)
    assert len(names_in(nas)) == 2


@in_a_folder
def test_a_snapshot_of_a_killed_process_is_removed(store: AddStore):
    store(takes_catalogue=TakesCatalogue.ALWAYS)
    dead = f"catalogue.db.export-{'d' * 16}"
    for name in (dead, f"{dead}-wal", f"catalogue.db.export-{'e' * 16}-shm"):
        (settings().instance_dir / name).write_bytes(b"hashes")
    with private_file() as others:
        Path(f"{others}-wal").write_bytes(b"of a live process")
        export_catalogue("nas", by="ann")
        assert {*left_beside_the_catalogue()} == {others, Path(f"{others}-wal")}
    assert left_beside_the_catalogue() == []


@in_a_folder
def test_a_failure_is_kept_with_the_store_and_tried_again_in_an_hour(store: AddStore):
    nas = store(takes_catalogue=TakesCatalogue.ALWAYS)
    with writing() as session:
        session.get_one(Store, nas.id).address = "file:///nowhere/at/all"
    export_what_is_due()
    row = get_store("nas")
    assert row.export_error == "the store's folder is not there"
    assert row.exported_at is None
    assert row.export_due_at is not None
    assert timedelta(minutes=59) < row.export_due_at - now() <= timedelta(hours=1)
    with pytest.raises(AppError, match="folder is not there"):
        export_catalogue("nas", by="ann")


@in_a_folder
def test_an_interruption_is_no_failure_and_it_is_due_again_at_once(store: AddStore):
    nas = store(takes_catalogue=TakesCatalogue.ALWAYS)

    def stop(_: int) -> None:
        raise Interrupted("the worker ends")

    with pytest.raises(Interrupted):
        export_what_is_due(stop)
    assert (get_store("nas").export_error, get_store("nas").export_due_at) == ("", None)
    assert keys_in(nas) == []
    export_what_is_due()
    assert len(names_in(nas)) == 1
    due_at = get_store("nas").export_due_at
    with pytest.raises(Interrupted):
        export_catalogue("nas", by="ann", on_block=stop)
    assert (get_store("nas").export_error, get_store("nas").export_due_at) == ("", due_at)


@on_sqlite
@in_a_folder
def test_a_clock_that_was_ahead_costs_no_new_export(
    store: AddStore, monkeypatch: pytest.MonkeyPatch
):
    nas = store(takes_catalogue=TakesCatalogue.ALWAYS)
    with monkeypatch.context() as ahead:
        ahead.setattr(exports, "filename_of", lambda at: filename_of(at + timedelta(days=9)))
        for _ in range(KEPT):
            export_catalogue("nas", by="ann")
    assert export_catalogue("nas", by="ann").filename in names_in(nas)
