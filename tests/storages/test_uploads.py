"""Uploads on real files: what has come whole stays, and becomes a dump without a copy."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app import locks
from app.errors import Conflict, NotFound, ObjectMissing, StorageError, StorageFull
from app.storages import LocalStorage
from app.storages.uploads import KEPT, Uploads

ID = "k3v0"
NAME = "backup_2026-07-01T12-00-00-000Z.dump"
WRONG = ["", "a" * 33, "A", "a b", "a.b", "a_b", "a/b", "../a", "a\n", "é", "*"]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "to be" / "made")


@pytest.fixture
def uploads(storage: LocalStorage) -> Uploads:
    return storage.uploads


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = psutil.Process().num_fds()
    yield
    assert psutil.Process().num_fds() == before


def begun(uploads: Uploads, content: bytes = b"", upload_id: str = ID) -> Path:
    """An upload of which this much has come."""
    uploads.begin(upload_id)
    if content:
        uploads.append(upload_id, 0, [content])
    return uploads.path_of(upload_id)


def read(uploads: Uploads, upload_id: str = ID) -> bytes:
    with uploads.open(upload_id) as file:
        return file.read()


def interrupted(*blocks: bytes) -> Iterator[bytes]:
    yield from blocks
    raise KeyboardInterrupt


def failing(number: int) -> Callable[..., None]:
    """Stands for a system call that fails: no disk breaks when asked to."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


# Parts


def test_parts_are_added_where_the_last_one_ended(storage: LocalStorage):
    uploads = storage.uploads
    uploads.begin(ID)
    assert uploads.received(ID) == 0
    assert uploads.append(ID, 0, [b"PG", b"", b"DMP"]) == 5
    assert uploads.append(ID, 5, []) == 5
    assert uploads.append(ID, 5, [b" and more"]) == 14 == uploads.received(ID)
    assert read(uploads) == b"PGDMP and more"
    assert uploads.path_of(ID) == storage.folder / ".partial" / f"upload_{ID}"
    assert list(storage.folder.iterdir()) == [storage.folder / ".partial"]


def test_an_upload_is_private(uploads: Uploads):
    path = begun(uploads)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_upload_begins_once(uploads: Uploads):
    begun(uploads, b"mine")
    with pytest.raises(StorageError, match="the upload cannot begin: the name is taken already"):
        uploads.begin(ID)
    assert read(uploads) == b"mine"


@pytest.mark.parametrize("offset", [0, 3, 5, -1])
def test_a_part_for_another_place_is_refused(uploads: Uploads, offset: int):
    begun(uploads, b"four")
    told = f"^the upload goes on at byte 4, not at {offset}$"
    with pytest.raises(Conflict, match=told) as refused:
        uploads.append(ID, offset, [b"and more"])
    assert refused.value.hint == "Ask for its offset, and send what comes then."
    assert read(uploads) == b"four"


def test_a_part_that_does_not_come_whole_leaves_nothing(uploads: Uploads):
    begun(uploads, b"four")
    with pytest.raises(KeyboardInterrupt):
        uploads.append(ID, 4, interrupted(b"and", b"more"))
    assert uploads.received(ID) == 4
    assert uploads.append(ID, 4, [b"!"]) == 5  # its lock was let go
    assert read(uploads) == b"four!"


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_part_that_cannot_be_written_leaves_nothing(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch, call: str
):
    begun(uploads, b"four")

    def blocks() -> Iterator[bytes]:
        yield b"half"
        monkeypatch.setattr(os, call, failing(errno.ENOSPC))
        yield b"and no more"

    with pytest.raises(StorageFull, match="the upload cannot be written"):
        uploads.append(ID, 4, blocks())
    assert uploads.received(ID) == 4


def test_a_part_is_written_whole_by_a_system_that_takes_little_at_once(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
):
    write = os.write
    uploads.begin(ID)
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    assert uploads.append(ID, 0, [b"ten bytes.", b"four"]) == 14
    assert read(uploads) == b"ten bytes.four"


def test_a_part_is_durable_before_it_counts(uploads: Uploads, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    uploads.begin(ID)
    monkeypatch.setattr(os, "fsync", watched)
    assert uploads.append(ID, 0, [b"four", b"more"]) == 8
    assert sizes == [8]


def test_of_two_writers_one_is_told(uploads: Uploads):
    begun(uploads, b"four")

    def meanwhile() -> Iterator[bytes]:
        yield b"first"
        with pytest.raises(Conflict, match="another part of this upload is being written") as told:
            uploads.append(ID, 4, [b"second"])
        assert told.value.hint == "Send one after the other."

    assert uploads.append(ID, 4, meanwhile()) == 9
    assert read(uploads) == b"fourfirst"


# Names


@pytest.mark.parametrize("upload_id", WRONG)
def test_a_wrong_id_is_of_no_upload_and_touches_no_file(storage: LocalStorage, upload_id: str):
    uploads = storage.uploads
    for verb in (
        uploads.path_of,
        uploads.begin,
        uploads.received,
        uploads.open,
        uploads.remove,
        lambda each: uploads.append(each, 0, [b"x"]),
        lambda each: storage.stage_upload(each, NAME),
    ):
        with pytest.raises(NotFound, match="no upload has this id"):
            verb(upload_id)
    assert [path for path in storage.folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("upload_id", ["0", "z" * 32])
def test_an_id_may_be_as_long_as_that(uploads: Uploads, upload_id: str):
    begun(uploads, b"x", upload_id)
    assert read(uploads, upload_id) == b"x"


def test_what_was_not_begun_is_not_found_and_not_made(uploads: Uploads):
    begun(uploads, b"x", "another")
    for verb in (uploads.received, uploads.open, lambda each: uploads.append(each, 0, [b"x"])):
        with pytest.raises(NotFound, match="no upload has this id") as missing:
            verb(ID)
        assert missing.value.hint == "It may be over; start again."
    assert not uploads.path_of(ID).exists()


# Over


def test_a_removed_upload_is_gone_and_the_others_stay(uploads: Uploads):
    begun(uploads, b"x")
    begun(uploads, b"y", "another")
    uploads.remove(ID)
    uploads.remove(ID)  # what is gone is no error
    assert not uploads.path_of(ID).exists()
    assert read(uploads, "another") == b"y"


def test_what_cannot_be_removed_or_read_is_told(uploads: Uploads):
    uploads.path_of(ID).mkdir(parents=True)
    with pytest.raises(StorageError, match="the upload cannot be removed"):
        uploads.remove(ID)
    with pytest.raises(StorageError, match="the upload cannot be read"):
        uploads.open(ID)
    with pytest.raises(StorageError, match="the upload cannot be written"):
        uploads.append(ID, 0, [b"x"])


def aged(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (time.time(), then))
    return path


def test_uploads_are_forgotten_a_day_after_their_last_part(storage: LocalStorage):
    uploads = storage.uploads
    assert KEPT == 24 * 60 * 60
    assert uploads.remove_old() == []  # there is no folder yet
    for upload_id, seconds in (("old", KEPT + 60), ("older", 9 * KEPT), ("young", KEPT - 60)):
        aged(begun(uploads, b"x", upload_id), seconds)
    staged = storage.stage(NAME)
    partial = aged(staged.path, 9 * KEPT)
    begun(uploads, b"x", "coming")

    def meanwhile() -> Iterator[bytes]:
        yield b"y"
        aged(uploads.path_of("coming"), KEPT + 60)
        assert sorted(uploads.remove_old()) == ["old", "older"]

    uploads.append("coming", 1, meanwhile())
    left = {path.name for path in partial.parent.iterdir()}
    assert left == {NAME, "upload_young", "upload_coming"}
    storage.discard(staged)


def test_uploads_that_vanish_meanwhile_do_not_matter(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
):
    for upload_id in ("one", "two", "three"):
        aged(begun(uploads, b"", upload_id), KEPT + 60)
    remove = locks.remove_unlocked

    def removed(path: Path) -> bool:
        done = remove(path)
        for other in path.parent.iterdir():
            other.unlink()
        return done

    monkeypatch.setattr(locks, "remove_unlocked", removed)
    assert len(uploads.remove_old()) == 1


def test_old_uploads_that_cannot_be_removed_are_told(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
):
    aged(begun(uploads), KEPT + 60)
    monkeypatch.setattr(locks, "remove_unlocked", failing(errno.EACCES))
    with pytest.raises(StorageError, match="old uploads cannot be removed"):
        uploads.remove_old()


# Taken as a dump


def test_an_upload_is_taken_as_a_dump_without_a_copy(storage: LocalStorage):
    upload = begun(storage.uploads, b"whole")
    inode = upload.stat().st_ino
    staged = storage.stage_upload(ID, NAME)
    assert (staged.name, staged.path) == (NAME, storage.folder / ".partial" / NAME)
    assert not upload.exists()
    assert not storage.has(NAME)
    assert locks.is_locked(staged.path)
    assert storage.remove_abandoned_partials() == []
    storage.publish(staged, b"{}")
    storage.discard(staged)
    published = storage.path_of(NAME)
    assert (published.read_bytes(), published.stat().st_ino) == (b"whole", inode)
    assert not locks.is_locked(published)


def test_an_upload_that_is_taken_and_discarded_is_gone(storage: LocalStorage):
    begun(storage.uploads, b"no dump")
    storage.discard(storage.stage_upload(ID, NAME))
    assert list((storage.folder / ".partial").iterdir()) == []


@pytest.mark.parametrize("name", ["", "x.dmp", "../x.dump", "upload_x"])
def test_an_upload_is_not_taken_under_a_wrong_name(storage: LocalStorage, name: str):
    begun(storage.uploads, b"whole")
    with pytest.raises(ObjectMissing, match="no dump has such a name"):
        storage.stage_upload(ID, name)
    assert read(storage.uploads) == b"whole"


def test_an_upload_takes_nobody_s_place(storage: LocalStorage):
    upload = begun(storage.uploads, b"mine")
    other = storage.stage(NAME)
    other.path.write_bytes(b"of another")
    with pytest.raises(StorageError, match=f"the upload of {NAME} cannot be taken: the name is"):
        storage.stage_upload(ID, NAME)
    assert other.path.read_bytes() == b"of another"
    assert read(storage.uploads) == b"mine"
    assert not locks.is_locked(upload)
    storage.discard(other)


def test_an_upload_that_is_not_there_is_not_taken(storage: LocalStorage):
    with pytest.raises(StorageError, match=f"the upload of {NAME} cannot be taken"):
        storage.stage_upload(ID, NAME)
    assert list((storage.folder / ".partial").iterdir()) == []


def test_an_upload_is_not_taken_while_it_comes(storage: LocalStorage):
    begun(storage.uploads, b"whole")

    def meanwhile() -> Iterator[bytes]:
        yield b", not yet"
        with pytest.raises(StorageError, match="cannot be taken"):
            storage.stage_upload(ID, NAME)

    assert storage.uploads.append(ID, 5, meanwhile()) == 14
    assert not (storage.folder / ".partial" / NAME).exists()


# Locks


def test_a_file_is_held_by_one_until_that_lets_it_go(tmp_path: Path):
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        locks.lock(path)
    path.write_bytes(b"kept")
    held = locks.lock(path)
    with pytest.raises(BlockingIOError):
        locks.lock(path)
    assert not locks.remove_unlocked(path)
    assert os.pread(held, 9, 0) == b"kept"
    os.write(held, b"K")
    os.close(held)
    os.close(locks.lock(path))
    assert path.read_bytes() == b"Kept"


def test_nothing_is_written_or_read_through_a_linked_folder(
    storage: LocalStorage, uploads: Uploads, tmp_path: Path
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"upload_{ID}").write_bytes(b"theirs")
    storage.folder.mkdir(parents=True)
    (storage.folder / ".partial").symlink_to(elsewhere)
    for act in (
        lambda: uploads.begin("another"),
        lambda: uploads.append(ID, 6, [b"ours"]),
        lambda: uploads.received(ID),
        lambda: uploads.open(ID),
        lambda: uploads.remove(ID),
        uploads.remove_old,
        lambda: storage.stage(NAME),
    ):
        with pytest.raises(StorageError, match="is a link"):
            act()
    assert {each.name: each.read_bytes() for each in elsewhere.iterdir()} == {
        f"upload_{ID}": b"theirs"
    }


def test_a_link_is_not_locked_through(tmp_path: Path):
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError, match="symbolic links"):
        locks.lock(tmp_path / "link")
