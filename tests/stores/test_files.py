"""Stores that are folders: links, full disks, absent mounts."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from app.errors import (
    ObjectMissing,
    StorageError,
    StorageFull,
    StoreDenied,
)
from app.stores import Store, check_store, open_store

MIB = 1024**2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nas").mkdir()
    return tmp_path / "nas"


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(f"file://{folder}")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_absent_mount_is_never_filled(folder: Path):
    store = open_store(f"file://{folder}/unmounted")
    for attempt in (
        lambda: store.put("a", [b"1"]), lambda: store.put_new("a", b"1"), lambda: store.read("a"),
        lambda: list(store.list()), lambda: store.size("a"), lambda: store.delete("a"),
        lambda: store.remove_unfinished(timedelta(0)),
    ):  # fmt: skip
        with pytest.raises(StorageError, match="folder is not there") as refused:
            attempt()
        assert "mounted" in refused.value.hint
    assert list(folder.iterdir()) == []
    assert next(iter(check_store(store))).passed is False


def test_no_link_is_followed_out_of_the_store(store: Store, folder: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_text("theirs")
    (folder / "shop").symlink_to(outside)
    (folder / "a").symlink_to(outside / "a")
    for key in ("shop/a", "a"):
        assert store.size(key) is None
        with pytest.raises(ObjectMissing):
            store.read(key)
    for attempt in (lambda: store.put("shop/b", [b"1"]), lambda: store.delete("shop/a")):
        with pytest.raises(StorageError, match="a link"):
            attempt()
    assert list(store.list()) == []
    store.put("a", [b"ours"])
    assert (outside / "a").read_text() == "theirs"
    assert files(outside) == ["a"]
    assert b"".join(store.read("a")) == b"ours"


def test_a_partial_folder_that_is_a_link_is_refused(store: Store, folder: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").touch()
    (folder / ".partial").symlink_to(outside)
    with pytest.raises(StorageError, match="a link"):
        store.put("a", [b"1"])
    assert store.remove_unfinished(timedelta(0)) == 0
    assert files(outside) == ["a"]


def test_what_is_no_file_is_no_object(store: Store, folder: Path):
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    for key in ("folder", "pipe"):
        assert store.size(key) is None
        with pytest.raises(ObjectMissing):
            store.read(key)
    assert list(store.list()) == []


def test_names_of_others_are_listed_as_they_are(store: Store, folder: Path):
    for name in ("a b", "line\nbreak", "ü", os.fsdecode(b"\xff")):
        (folder / name).touch()
    assert {found.key for found in store.list()} == {"a b", "line\nbreak", "ü", "\udcff"}


def test_objects_and_partials_are_private(store: Store, folder: Path):
    store.put("shop/a", [b"1"])
    store.put_new("b", b"1")
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@contextmanager
def no_room_after(size: int) -> Iterator[None]:
    """Files cannot grow over this size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing(store: Store, folder: Path):
    with no_room_after(MIB), pytest.raises(StorageFull, match="no space is left"):
        store.put("a", [bytes(MIB)] * 3)
    assert files(folder) == []
    assert store.size("a") is None


def test_an_old_object_stays_when_its_replacement_fails(store: Store):
    store.put("a", [b"old"])
    with no_room_after(MIB), pytest.raises(StorageFull):
        store.put("a", [bytes(MIB)] * 3)
    assert b"".join(store.read("a")) == b"old"


def test_partials_are_removed_once_they_are_old(store: Store, folder: Path):
    (folder / ".partial").mkdir()
    for name, age in (("new", 60), ("old", 7200)):
        path = folder / ".partial" / name
        path.touch()
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    assert store.remove_unfinished(timedelta(hours=1)) == 1
    assert files(folder) == [".partial/new"]


def test_a_folder_without_rights_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(StoreDenied, match="access is denied") as refused:
        open_store(f"file://{tmp_path}").put("a", [b"1"])
    assert "rights" in refused.value.hint


def test_a_file_system_without_links_is_told(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match="knows no hard links"):
        store.put_new("a", b"1")
    assert files(folder) == []
    steps = {step.name: step for step in check_store(store)}
    assert steps["refuse a second"].passed is False
    assert files(folder) == []
