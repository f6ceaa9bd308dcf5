"""The local storage on real files: whole under a final name, or not there at all."""

import errno
import fcntl
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import locks
from app.errors import ObjectMissing, StorageError, StorageFull
from app.storages import LocalStorage, Staged, local

ROOT = Path(__file__).resolve().parents[2]
NAME = "backup_2026-07-01T12-00-00-000Z.dump"
OTHER = "backup_2026-07-01T12-00-00-001Z.dump"
MANIFEST = b'{"sha256": "of the dump"}'
KINDS = ["link", "dangling link", "folder", "fifo"]

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's own ways")
unhurried = settings(deadline=None, database=None)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "to be" / "made")


def staged(storage: LocalStorage, name: str = NAME, content: bytes = b"whole") -> Staged:
    """A dump that has been written and is not published yet."""
    made = storage.stage(name)
    made.path.write_bytes(content)
    return made


def published(storage: LocalStorage, name: str = NAME, content: bytes = b"whole") -> None:
    made = staged(storage, name, content)
    storage.publish(made, MANIFEST)
    storage.discard(made)


def read(storage: LocalStorage, name: str = NAME) -> bytes:
    with storage.open(name) as file:
        return file.read()


def files(folder: Path) -> dict[str, bytes | None]:
    """Everything below, found without the storage's verbs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        if stat.S_ISREG(path.lstat().st_mode)
        else None
        for path in folder.rglob("*")
    }


def final_names(storage: LocalStorage) -> list[str]:
    return sorted(path.name for path in storage.folder.iterdir() if path.name != ".partial")


def plant(kind: str, path: Path, elsewhere: Path) -> None:
    """Put something that is no dump where one could be."""
    if kind == "link":
        (elsewhere / "target").write_bytes(b"precious")
        path.symlink_to(elsewhere / "target")
    elif kind == "dangling link":
        path.symlink_to(elsewhere / "not there")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)


def failing(number: int) -> Callable[..., None]:
    """Stands for a system call that fails: no disk breaks when asked to."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def open_descriptors() -> int:
    return psutil.Process().num_fds()


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def plain_environment() -> dict[str, str]:
    """Without the measuring of coverage: other accounts cannot write its files."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def test_who_reads_a_dump_is_seen_until_it_is_closed(storage: LocalStorage):
    published(storage)
    assert not storage.is_being_read(NAME)
    with storage.open(NAME), storage.open(NAME):
        assert storage.is_being_read(NAME)
    assert not storage.is_being_read(NAME)
    assert not storage.is_being_read("other.dump")
    assert not storage.is_being_read("../etc/passwd")


# Stage


def test_making_a_storage_touches_nothing(storage: LocalStorage):
    assert storage.sizes() == {}
    assert not storage.folder.exists()


def test_a_staged_file_is_private_and_under_no_final_name(storage: LocalStorage):
    made = storage.stage(NAME)
    assert made.path.parent.name == ".partial"
    assert final_names(storage) == []
    assert storage.sizes() == {}
    assert not storage.has(NAME)
    storage.discard(made)


def test_a_staged_file_is_private_whatever_the_umask(storage: LocalStorage):
    before = os.umask(0)
    try:
        made = storage.stage(NAME)
    finally:
        os.umask(before)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.path.parent.stat().st_mode & 0o777 == 0o700
    storage.discard(made)


def test_a_name_is_staged_once(storage: LocalStorage):
    made = staged(storage)
    with pytest.raises(StorageError, match="cannot be written") as refused:
        storage.stage(NAME)
    assert "File exists" in refused.value.detail
    assert made.path.read_bytes() == b"whole"
    storage.discard(made)
    storage.discard(storage.stage(NAME))


def test_a_staged_file_is_locked_until_it_is_discarded(storage: LocalStorage):
    made = storage.stage(NAME)
    with made.path.open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        storage.discard(made)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_was_written_so_far_can_be_read(storage: LocalStorage):
    assert storage.staged_size(NAME) == 0
    made = staged(storage, content=b"so far")
    assert storage.staged_size(NAME) == 6
    with storage.open_staged(made) as file:
        assert file.read() == b"so far"
    storage.discard(made)
    assert storage.staged_size(NAME) == 0


def test_what_was_staged_and_is_gone_is_an_error_that_can_be_told(storage: LocalStorage):
    made = storage.stage(NAME)
    made.path.unlink()
    try:
        with pytest.raises(StorageError):
            storage.open_staged(made)
    finally:
        storage.discard(made)


def test_a_staged_file_that_somebody_replaced_is_neither_read_nor_published(
    storage: LocalStorage,
):
    made = storage.stage(NAME)
    made.path.unlink()
    made.path.write_bytes(b"of somebody else")
    before = open_descriptors()
    for verb in (lambda: storage.open_staged(made), lambda: storage.publish(made, MANIFEST)):
        with pytest.raises(StorageError, match=f"{NAME} was replaced while it was written"):
            verb()
    assert open_descriptors() == before
    storage.discard(made)
    assert final_names(storage) == []


def test_a_link_in_place_of_the_partials_is_refused(storage: LocalStorage, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    storage.folder.mkdir(parents=True)
    (storage.folder / ".partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a link") as refused:
        storage.stage(NAME)
    assert refused.value.hint == "Dumps are not written through links; remove it."
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_dangling_link_in_place_of_the_partials_is_refused(storage: LocalStorage, tmp_path: Path):
    storage.folder.mkdir(parents=True)
    (storage.folder / ".partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        storage.stage(NAME)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("verb", ["stage", "open", "manifest", "delete", "sizes"])
def test_a_file_in_place_of_the_folder_is_told(verb: str, tmp_path: Path):
    (tmp_path / "file").touch()
    storage = LocalStorage(tmp_path / "file")
    with pytest.raises(StorageError) as told:
        getattr(storage, verb)(*([] if verb == "sizes" else [NAME]))
    assert told.value.hint
    assert not storage.has(NAME)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_planted_under_a_partial_s_name_is_not_written_to(
    kind: str, storage: LocalStorage, tmp_path: Path
):
    storage.discard(storage.stage(OTHER))
    plant(kind, storage.folder / ".partial" / NAME, tmp_path)
    before = files(tmp_path)
    with pytest.raises(StorageError):
        storage.stage(NAME)
    assert files(tmp_path) == before


def test_discard_removes_what_was_staged_and_nothing_else(storage: LocalStorage):
    published(storage, OTHER)
    storage.discard(staged(storage))
    assert final_names(storage) == [OTHER, f"{OTHER}.json"]
    assert list((storage.folder / ".partial").iterdir()) == []


def test_discard_of_what_is_gone_is_no_error(storage: LocalStorage):
    made = storage.stage(NAME)
    made.path.unlink()
    storage.discard(made)
    assert not is_open(made.descriptor)


def test_discard_that_fails_is_told_and_lets_the_lock_go(storage: LocalStorage):
    made = storage.stage(NAME)
    made.path.unlink()
    made.path.mkdir()
    try:
        with pytest.raises(StorageError):
            storage.discard(made)
        assert not is_open(made.descriptor)
    finally:
        with suppress(OSError):
            os.close(made.descriptor)


# Publish


def test_a_published_dump_is_whole_and_has_its_manifest(storage: LocalStorage):
    made = staged(storage, content=b"all of it")
    storage.publish(made, MANIFEST)
    assert final_names(storage) == [NAME, f"{NAME}.json"]
    assert list((storage.folder / ".partial").iterdir()) == []
    assert read(storage) == b"all of it"
    assert storage.manifest(NAME) == MANIFEST
    assert storage.sizes() == {NAME: 9}
    assert storage.has(NAME)
    for name in final_names(storage):
        assert (storage.folder / name).stat().st_mode & 0o777 == 0o600
    storage.discard(made)


def test_discard_after_publish_keeps_the_dump(storage: LocalStorage):
    made = staged(storage)
    storage.publish(made, MANIFEST)
    storage.discard(made)
    assert read(storage) == b"whole"
    assert storage.manifest(NAME) == MANIFEST
    assert not is_open(made.descriptor)


@only_linux
def test_bytes_are_durable_before_they_have_their_name_and_names_at_the_end(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    made = staged(storage)
    steps: list[tuple[str, str]] = []

    def within(path: object) -> str:
        return str(Path(str(path)).relative_to(storage.folder))

    def watch(name: str, tell: Callable[..., tuple[str, str]]) -> None:
        real = getattr(os, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            steps.append(tell(*arguments))
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, watched)

    for name in ("fsync", "fdatasync"):
        watch(name, lambda number: ("sync", within(Path(f"/proc/self/fd/{number}").readlink())))
    for name in ("link", "rename", "replace"):
        watch(name, lambda _, target: ("name", within(target)))
    storage.publish(made, MANIFEST)
    monkeypatch.undo()
    storage.discard(made)

    def first(step: str, path: str) -> int:
        return next(
            n for n, each in enumerate(steps) if re.fullmatch(path, each[1]) and step == each[0]
        )

    manifest = f"{NAME}.json"
    assert first("sync", f".partial/{NAME}") < first("name", NAME)
    assert first("sync", rf".partial/{NAME}\.json.*") < first("name", manifest)
    assert first("name", manifest) < first("name", NAME)
    assert steps[-1] == ("sync", ".")


def test_publish_never_overwrites(storage: LocalStorage):
    published(storage, content=b"first")
    before = files(storage.folder)
    second = staged(storage, content=b"second")
    with pytest.raises(StorageError) as refused:
        storage.publish(second, b"another manifest")
    assert re.search("already|File exists", refused.value.in_words())
    storage.discard(second)
    assert files(storage.folder) == before


def test_publish_never_overwrites_what_appears_meanwhile(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    second = staged(storage, content=b"second")
    real = os.link

    def link(*arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        (storage.folder / NAME).write_bytes(b"first")
        (storage.folder / f"{NAME}.json").write_bytes(MANIFEST)
        real(*arguments, **options)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(StorageError):
        storage.publish(second, b"another manifest")
    storage.discard(second)
    assert files(storage.folder).get(NAME) == b"first"
    assert files(storage.folder).get(f"{NAME}.json") == MANIFEST


@pytest.mark.parametrize("kind", KINDS)
def test_publish_leaves_alone_what_is_planted_under_the_name(
    kind: str, storage: LocalStorage, tmp_path: Path
):
    made = staged(storage)
    plant(kind, storage.folder / NAME, tmp_path)
    before = files(tmp_path)
    with pytest.raises(StorageError):
        storage.publish(made, MANIFEST)
    after = files(tmp_path)
    after.pop(f"to be/made/.partial/{NAME}.json", None)
    storage.discard(made)
    assert after == before


@pytest.mark.parametrize("step", ["bytes", "names", "the dump's name"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPERM])
def test_nothing_has_a_final_name_after_a_failing_publish(
    step: str, number: int, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    made = staged(storage)
    real = os.link

    def link(source: Any, target: Any, **options: Any) -> None:
        if Path(target).name == NAME:
            failing(number)()
        real(source, target, **options)

    if step == "bytes":
        monkeypatch.setattr(os, "fsync", failing(number))
    elif step == "names":
        for call in ("link", "rename", "replace"):
            monkeypatch.setattr(os, call, failing(number))
    else:
        monkeypatch.setattr(os, "link", link)
    with pytest.raises(StorageError, match="cannot be published") as failed:
        storage.publish(made, MANIFEST)
    monkeypatch.undo()
    storage.discard(made)
    assert isinstance(failed.value, StorageFull) == (number in {errno.ENOSPC, errno.EDQUOT})
    assert os.strerror(number) in failed.value.detail
    assert failed.value.hint
    assert final_names(storage) == []


def test_nothing_has_a_final_name_when_names_cannot_be_made_durable(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    made = staged(storage)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            failing(errno.EIO)()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="cannot be published"):
        storage.publish(made, MANIFEST)
    monkeypatch.undo()
    storage.discard(made)
    assert final_names(storage) == []


@pytest.mark.parametrize("step", ["link", "unlink"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupt_right_after_a_step_leaves_nothing_under_a_final_name(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, step: str, number: int
):
    made, calls = staged(storage), iter(range(1, 100))
    real = getattr(os, step)

    def interrupted(*args: Any, **options: Any) -> None:
        real(*args, **options)
        if next(calls) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, step, interrupted)
    with suppress(KeyboardInterrupt):
        storage.publish(made, MANIFEST)
    monkeypatch.undo()
    storage.discard(made)
    assert final_names(storage) in ([], [made.name, f"{made.name}.json"])
    if step == "link":
        assert final_names(storage) == []


def test_what_another_made_under_a_final_name_stays(storage: LocalStorage):
    made = staged(storage)
    (storage.folder / made.name).write_bytes(b"of another")
    with pytest.raises(StorageError, match="taken already"):
        storage.publish(made, MANIFEST)
    storage.discard(made)
    assert final_names(storage) == [made.name]
    assert (storage.folder / made.name).read_bytes() == b"of another"


def test_nothing_has_a_final_name_after_an_interrupt(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    made = staged(storage)

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupt)
    with pytest.raises(KeyboardInterrupt):
        storage.publish(made, MANIFEST)
    monkeypatch.undo()
    storage.discard(made)
    assert final_names(storage) == []


def test_nothing_is_left_over_after_a_failing_manifest(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    made = staged(storage)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if descriptor != made.descriptor:
            failing(errno.ENOSPC)()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageFull):
        storage.publish(made, MANIFEST)
    monkeypatch.undo()
    storage.discard(made)
    assert list(files(storage.folder)) == [".partial"]


def test_a_failed_publish_can_be_tried_again(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    made = staged(storage)
    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    with pytest.raises(StorageFull):
        storage.publish(made, MANIFEST)
    monkeypatch.undo()
    storage.publish(made, MANIFEST)
    storage.discard(made)
    assert read(storage) == b"whole"


def test_what_fails_is_told_by_what_was_to_be_done(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    published(storage)
    made = staged(storage, OTHER)
    (storage.folder / "lone.dump.json").touch()
    (storage.folder / ".partial" / "of_nobody.dump").touch()
    verbs: list[tuple[str, Callable[[], object], str]] = [
        ("fsync", storage.make_durable, "the names in {} cannot be made durable"),
        ("fsync", lambda: storage.publish(made, MANIFEST), "the dump cannot be published in {}"),
        (
            "rename",
            lambda: storage.replace_manifest(NAME, b"{}"),
            f"the manifest of {NAME} cannot be written",
        ),
        ("open", lambda: storage.open_staged(made), f"{OTHER} cannot be read back"),
        ("open", lambda: storage.open(NAME), f"{NAME} cannot be opened"),
        ("open", lambda: storage.stage("y.dump"), "a new dump cannot be written in {}"),
        ("scandir", storage.sizes, "{} cannot be read"),
        ("statvfs", storage.free_space, "the free space of {} cannot be read"),
        ("unlink", lambda: storage.delete(NAME), f"{NAME} cannot be deleted from {{}}"),
        ("unlink", storage.remove_abandoned_partials, "the partials in {} cannot be tidied"),
    ]
    for step, verb, message in verbs:
        with monkeypatch.context() as patch:
            patch.setattr(os, step, failing(errno.EIO))
            if step == "open":
                patch.setattr("io.open", failing(errno.EIO))
            with pytest.raises(StorageError) as failed:
                verb()
        assert failed.value.message == message.format(storage.folder)
        assert failed.value.detail == "Input/output error."
        assert failed.value.hint == "Check the folder's owner and rights (BACKSTOP_BACKUP_DIR)."
        assert read(storage) == b"whole"
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing(errno.EIO))
        with pytest.raises(StorageError, match=r"the manifests in .* cannot be tidied"):
            storage.remove_lone_manifests()
        with pytest.raises(StorageError, match=f"the partial of {OTHER} cannot be removed"):
            storage.discard(made)


def test_what_fails_is_told_with_the_file_that_it_was(storage: LocalStorage):
    published(storage)
    (storage.folder / f"{NAME}.json").unlink()
    (storage.folder / f"{NAME}.json").mkdir()
    with pytest.raises(StorageError) as failed:
        storage.delete(NAME)
    assert failed.value.detail == f"Is a directory: {storage.folder / NAME}.json."


# Python itself may lie where the account cannot read: all that is needed is imported before.
UNPRIVILEGED = """
import os, pwd, sys
from pathlib import Path
from app.errors import StorageError
from app.storages import LocalStorage

folder = Path(sys.argv[1])
if os.geteuid() == 0:
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    os.setgroups([]), os.setgid(nobody.pw_gid), os.setuid(nobody.pw_uid)

def tell(function, *arguments):
    try:
        function(*arguments)
    except StorageError as error:
        print(error.message, "|", error.detail.partition(":")[0], "|", error.hint)

storage = LocalStorage(folder)
made = storage.stage("new.dump")
made.path.write_bytes(b"whole")
folder.chmod(0o500)
tell(storage.publish, made, b"{}")
storage.discard(made)
print(sorted(each.name for each in folder.iterdir()))
tell(storage.delete, "old.dump")
folder.chmod(0o300)
tell(storage.sizes)
(folder / "closed.dump").touch(mode=0o000)
tell(storage.open, "closed.dump")
folder.chmod(0o700)
"""


def test_what_may_not_be_done_is_told():
    above = Path(tempfile.mkdtemp(prefix="backstop-test-"))
    try:
        above.chmod(0o711)  # unlike pytest's own folders
        folder = above / "backups"
        folder.mkdir()
        (folder / "old.dump").write_bytes(b"old")
        ended = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, folder],
            cwd=ROOT, env=plain_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (folder / "old.dump").read_bytes() == b"old"
    finally:
        shutil.rmtree(above)
    why = "Permission denied | Check the folder's owner and rights (BACKSTOP_BACKUP_DIR)."
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        f"the dump cannot be published in {folder} | {why}",
        "['.partial', 'old.dump']",
        f"old.dump cannot be deleted from {folder} | {why}",
        f"{folder} cannot be read | {why}",
        f"closed.dump cannot be opened | {why}",
    ]


# No space left


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "backstop-test", folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"no mounting here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Leave not a page on the disk of this file."""
    with path.open("ab", buffering=0) as file, suppress(OSError):
        for _ in range(1000):
            file.write(b"x" * 4096)


def test_a_full_disk_is_told_when_a_dump_is_published(small_disk: Path):
    storage = LocalStorage(small_disk)
    published(storage, OTHER)
    made = storage.stage(NAME)
    fill(made.path)
    with pytest.raises(StorageFull, match="cannot be published") as full:
        storage.publish(made, MANIFEST)
    assert "No space left on device" in full.value.detail
    assert full.value.hint == "Free some space, or move BACKSTOP_BACKUP_DIR."
    storage.discard(made)
    assert final_names(storage) == [OTHER, f"{OTHER}.json"]
    published(storage)  # there is space again
    assert read(storage) == b"whole"


def test_a_full_disk_leaves_a_manifest_as_it_was(small_disk: Path):
    storage = LocalStorage(small_disk)
    published(storage)
    fill(small_disk / "foreign")
    with pytest.raises(StorageFull, match="manifest"):
        storage.replace_manifest(NAME, b"another" * 1000)
    assert storage.manifest(NAME) == MANIFEST


def test_a_full_disk_is_told_before_a_dump_is_begun(small_disk: Path):
    storage = LocalStorage(small_disk)
    with suppress(OSError):
        for number in range(1000):
            (small_disk / str(number)).touch()
    with pytest.raises(StorageFull, match="a new dump cannot be written"):
        storage.stage(NAME)


def test_a_limit_of_file_sizes_is_told_as_full(storage: LocalStorage):
    made = staged(storage, content=b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(StorageFull) as full:
            storage.publish(made, b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        storage.discard(made)
    assert "File too large" in full.value.detail
    assert final_names(storage) == []


# Manifests


def test_a_manifest_is_replaced_in_one_step(storage: LocalStorage):
    published(storage)
    with (storage.folder / f"{NAME}.json").open("rb") as before:
        storage.replace_manifest(NAME, b"another")
        assert before.read() == MANIFEST  # the old one was not written to
    assert storage.manifest(NAME) == b"another"
    assert read(storage) == b"whole"
    assert (storage.folder / f"{NAME}.json").stat().st_mode & 0o777 == 0o600
    assert list((storage.folder / ".partial").iterdir()) == []


def test_a_manifest_is_always_whole_to_readers(storage: LocalStorage):
    published(storage)
    manifests = [bytes([letter]) * 200_000 for letter in b"ab"]
    storage.replace_manifest(NAME, manifests[0])
    over = threading.Event()
    seen: set[bytes] = set()

    def look() -> None:
        while not over.is_set():
            seen.add(storage.manifest(NAME))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(50):
            storage.replace_manifest(NAME, manifests[number % 2])
    finally:
        over.set()
        reader.join()
    assert seen
    assert seen <= set(manifests)


def test_a_manifest_that_cannot_be_replaced_stays(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    published(storage)
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(StorageError, match=f"manifest of {NAME} cannot be written"):
        storage.replace_manifest(NAME, b"another")
    monkeypatch.undo()
    assert storage.manifest(NAME) == MANIFEST


def test_a_manifest_is_replaced_where_dumps_were_copied_to(storage: LocalStorage):
    storage.folder.mkdir(parents=True)
    (storage.folder / NAME).write_bytes(b"whole")
    (storage.folder / f"{NAME}.json").write_bytes(MANIFEST)
    storage.replace_manifest(NAME, b"another")
    assert storage.manifest(NAME) == b"another"


def test_a_manifest_is_replaced_while_somebody_tidies(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    published(storage)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        LocalStorage(storage.folder).remove_abandoned_partials()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    storage.replace_manifest(NAME, b"another")
    monkeypatch.undo()
    assert storage.manifest(NAME) == b"another"


def test_the_parts_of_a_dump_have_a_private_folder(storage: LocalStorage):
    staged = storage.stage(NAME)
    with storage.parts_of(staged) as folder:
        assert (folder.stat().st_mode & 0o777, list(folder.iterdir())) == (0o700, [])
        (folder / "1.dat.zst").write_bytes(b"rows")
        assert storage.remove_abandoned_partials() == []
        assert (folder / "1.dat.zst").exists(), "somebody tidied a dump that is being written"
    assert not folder.exists()
    storage.discard(staged)


def test_abandoned_parts_are_removed(storage: LocalStorage, tmp_path: Path):
    """Of a dump whose file is there, and of one without; a link is nobody's parts."""
    storage.discard(storage.stage(NAME))
    partials = storage.folder / ".partial"
    (partials / NAME).touch()
    for name in (NAME, OTHER):
        (partials / f"{name}.parts").mkdir()
        (partials / f"{name}.parts" / "1.dat.zst").write_bytes(b"rows")
    (tmp_path / "elsewhere").mkdir()
    (partials / "x.dump.parts").symlink_to(tmp_path / "elsewhere")
    assert storage.remove_abandoned_partials() == [NAME]
    assert [path.name for path in partials.iterdir()] == ["x.dump.parts"]
    assert (tmp_path / "elsewhere").is_dir()


def test_a_link_in_place_of_a_partial_manifest_is_not_written_through(
    storage: LocalStorage, tmp_path: Path
):
    published(storage)
    plant("link", storage.folder / ".partial" / f"{NAME}.json", tmp_path)
    with suppress(StorageError):
        storage.replace_manifest(NAME, b"another")
    assert (tmp_path / "target").read_bytes() == b"precious"


# Names

WRONG_NAMES = [
    "xdump", "x-dump", "xxdump",
    "", ".", "..", "../x.dump", "a/b.dump", "/etc/passwd", "/x.dump", "a\\b.dump", ".dump",
    ".hidden.dump", "-x.dump", "_x.dump", "x", "x.dump.json", "x.DUMP", "x.dump\n", "\nx.dump",
    "x y.dump", "x\0.dump", "x.dump\0", "\N{LATIN SMALL LETTER U WITH DIAERESIS}.dump",
    "\N{ARABIC-INDIC DIGIT ONE}.dump", "a" * 300 + ".dump", "a" * 202 + ".dump",
    "%2e%2e%2fx.dump", "~.dump", "..dump", "x..dump", ".partial", ".partial/x.dump", "foreign",
]  # fmt: skip


def is_a_name(name: str) -> bool:
    """What dumps may be called, said in another way than the storage says it."""
    stem = name.removesuffix(".dump")
    return (
        len(stem) == len(name) - 5
        and 0 < len(stem) <= 201
        and stem.isascii()
        and stem[0].isalnum()
        and all(each.isalnum() or each in "_-" for each in stem)
    )


def refuses(storage: LocalStorage, name: str) -> None:
    for verb in (storage.open, storage.manifest, storage.delete, storage.stage):
        with pytest.raises(ObjectMissing):
            verb(name)
    with pytest.raises(ObjectMissing):
        storage.replace_manifest(name, b"")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> LocalStorage:
    """A storage that nobody gets to change, with files around it."""
    above = tmp_path_factory.mktemp("above")
    (above / "x.dump").write_bytes(b"outside")
    (above / "x.dump.json").write_bytes(b"outside")
    storage = LocalStorage(above / "backups")
    published(storage, "there.dump")
    (storage.folder / "foreign").write_bytes(b"foreign")
    return storage


@pytest.mark.parametrize("name", WRONG_NAMES, ids=ascii)
def test_a_wrong_name_is_of_no_dump_and_touches_no_file(name: str, shared: LocalStorage):
    assert not is_a_name(name)
    before = files(shared.folder.parent)
    refuses(shared, name)
    assert files(shared.folder.parent) == before


@unhurried
@given(
    name=st.text()
    | st.from_regex(r"(\.{0,2}/){1,3}[a-z.]*(\.dump)?")
    | st.text().map(lambda text: f"{text}.dump")
)
def test_any_wrong_name_is_of_no_dump_and_touches_no_file(shared: LocalStorage, name: str):
    if not is_a_name(name):
        before = files(shared.folder.parent)
        refuses(shared, name)
        assert files(shared.folder.parent) == before


@pytest.mark.parametrize(
    "name",
    ["", "../x.dump", "x\0.dump", "foreign", "/etc/passwd", "there.dump.json", "there.dump\n"],
    ids=ascii,
)
def test_questions_about_a_wrong_name_are_answered_with_no(name: str, shared: LocalStorage):
    assert not shared.has(name)
    assert shared.staged_size(name) == 0
    assert shared.staged_size(f"../{name}") == 0


@unhurried
@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,200}\.dump", fullmatch=True))
def test_any_good_name_is_kept(tmp_path_factory: pytest.TempPathFactory, name: str):
    storage = LocalStorage(tmp_path_factory.getbasetemp() / "names")
    published(storage, name, content=name.encode())
    assert read(storage, name) == name.encode()
    assert storage.sizes() == {name: len(name)}
    storage.delete(name)
    assert final_names(storage) == []


# Open


def test_a_dump_that_is_not_there_is_missing(storage: LocalStorage):
    for _ in range(2):  # without the folder, and with it
        with pytest.raises(ObjectMissing, match=NAME):
            storage.open(NAME)
        with pytest.raises(ObjectMissing):
            storage.manifest(NAME)
        storage.folder.mkdir(parents=True, exist_ok=True)


def test_an_opened_dump_outlives_its_deletion(storage: LocalStorage):
    published(storage)
    with storage.open(NAME) as file:
        storage.delete(NAME)
        assert file.read() == b"whole"


def test_an_opened_dump_is_for_reading_and_not_for_other_programs(storage: LocalStorage):
    published(storage)
    with storage.open(NAME) as file:
        assert not os.get_inheritable(file.fileno())
        assert not file.writable()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["", ".json"])
def test_what_is_planted_under_a_dump_s_name_is_not_opened(
    kind: str, suffix: str, storage: LocalStorage, tmp_path: Path
):
    published(storage, OTHER)
    plant(kind, storage.folder / f"{NAME}{suffix}", tmp_path)
    before = open_descriptors()
    with pytest.raises(ObjectMissing) as missing:
        (storage.manifest if suffix else storage.open)(NAME)
    why = f"not in {storage.folder}" if "link" in kind else "not a file"
    assert missing.value.message == f"{NAME}{suffix} is {why}"
    assert open_descriptors() == before
    assert list(storage.sizes()) == [OTHER]
    assert not storage.has(NAME)


def test_the_path_of_a_dump_is_told_where_there_is_one(storage: LocalStorage, tmp_path: Path):
    published(storage)
    assert storage.path_of(NAME) == storage.folder / NAME
    plant("link", storage.folder / OTHER, tmp_path)
    for name in (OTHER, NAME.replace("07", "08"), f"../{NAME}"):
        with pytest.raises(ObjectMissing):
            storage.path_of(name)


def test_what_is_too_large_is_no_manifest(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch):
    published(storage)
    monkeypatch.setattr(local, "_LARGEST_MANIFEST", len(MANIFEST) + 1)
    assert storage.manifest(NAME) == MANIFEST
    monkeypatch.setattr(local, "_LARGEST_MANIFEST", len(MANIFEST))
    with pytest.raises(StorageError, match=f"^the manifest of {NAME} is too large to be one$"):
        storage.manifest(NAME)


@only_linux
def test_a_socket_under_a_dump_s_name_is_not_opened(storage: LocalStorage):
    storage.folder.mkdir(parents=True)
    os.mknod(storage.folder / NAME, stat.S_IFSOCK | 0o600)
    with pytest.raises(StorageError):
        storage.open(NAME)


# Delete


def test_delete_removes_the_dump_and_then_its_manifest(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    published(storage)
    published(storage, OTHER)
    gone: list[str] = []
    real = os.unlink

    def unlink(path: Any, *arguments: Any, **options: Any) -> None:
        gone.append(Path(path).name)
        real(path, *arguments, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    storage.delete(NAME)
    monkeypatch.undo()
    assert gone == [NAME, f"{NAME}.json"]
    assert final_names(storage) == [OTHER, f"{OTHER}.json"]


def test_delete_of_what_is_gone_is_no_error(storage: LocalStorage):
    storage.delete(NAME)
    published(storage)
    storage.delete(NAME)
    storage.delete(NAME)
    assert final_names(storage) == []


@pytest.mark.parametrize("left", [NAME, f"{NAME}.json"])
def test_an_interrupted_delete_is_finished_by_the_next(left: str, storage: LocalStorage):
    published(storage)
    for name in {NAME, f"{NAME}.json"} - {left}:
        (storage.folder / name).unlink()
    storage.delete(NAME)
    assert final_names(storage) == []


def test_delete_leaves_a_dump_alone_that_is_being_written(storage: LocalStorage):
    made = staged(storage)
    storage.delete(NAME)
    assert made.path.read_bytes() == b"whole"
    storage.discard(made)


def test_delete_removes_a_link_and_not_its_target(storage: LocalStorage, tmp_path: Path):
    storage.folder.mkdir(parents=True)
    plant("link", storage.folder / NAME, tmp_path)
    storage.delete(NAME)
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_delete_of_a_folder_is_refused(storage: LocalStorage):
    (storage.folder / NAME).mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be deleted") as refused:
        storage.delete(NAME)
    assert "Is a directory" in refused.value.detail
    assert (storage.folder / NAME).is_dir()


# List


def test_list_tells_published_dumps_and_ignores_the_rest(storage: LocalStorage):
    published(storage, content=b"12345")
    made = staged(storage, OTHER)
    for name in (
        "README.txt",
        "dump",
        "x.dump.json",
        "x.dump.tmp",
        ".x.dump",
        "a b.dump",
        "x.DUMP",
    ):
        (storage.folder / name).touch()
    (storage.folder / "folder.dump").mkdir()
    (storage.folder / "link.dump").symlink_to(storage.folder / NAME)
    os.mkfifo(storage.folder / "fifo.dump")
    assert storage.sizes() == {NAME: 5}
    storage.discard(made)


def test_list_bears_that_a_dump_is_deleted_meanwhile(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    published(storage)
    published(storage, OTHER)
    real = local.list_files

    def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
        for entry in real(folder):
            if entry.name == NAME:
                storage.delete(NAME)
            yield entry

    monkeypatch.setattr(local, "list_files", entries)
    assert list(storage.sizes()) == [OTHER]


# Tidying

HOLD = """
import sys
from pathlib import Path
from app.storages import LocalStorage
made = LocalStorage(Path(sys.argv[1])).stage(sys.argv[2])
made.path.write_bytes(b"so far")
print("holds", flush=True)
sys.stdin.read()
"""

TIDY = """
import sys
from pathlib import Path
from app.storages import LocalStorage
storage = LocalStorage(Path(sys.argv[1]))
print("tidies", flush=True)
while True:
    storage.remove_abandoned_partials()
"""


@contextmanager
def another_process(script: str, *arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """A Python process that has told its first line; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, env=plain_environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        try:
            assert other.stdout.readline()
            yield other
        finally:
            other.kill()


def test_a_partial_is_removed_when_its_process_was_killed_and_not_before(storage: LocalStorage):
    with another_process(HOLD, storage.folder, NAME) as other:
        assert storage.remove_abandoned_partials() == []
        assert storage.staged_size(NAME) == 6
        other.kill()
        other.wait()
        assert storage.staged_size(NAME) == 6
        assert storage.remove_abandoned_partials() == [NAME]
    assert list((storage.folder / ".partial").iterdir()) == []


def test_our_own_partials_stay_too(storage: LocalStorage):
    made = staged(storage)
    assert storage.remove_abandoned_partials() == []
    assert made.path.read_bytes() == b"whole"
    storage.discard(made)


def test_no_folder_has_nothing_to_tidy(storage: LocalStorage):
    assert storage.remove_abandoned_partials() == []
    assert storage.remove_lone_manifests() == []
    assert not storage.folder.exists(), "nothing is made by tidying"


def test_tidying_does_not_reach_through_a_link(storage: LocalStorage, tmp_path: Path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.txt").write_bytes(b"precious")
    storage.folder.mkdir(parents=True)
    (storage.folder / ".partial").symlink_to(tmp_path / "documents")
    with suppress(StorageError):
        storage.remove_abandoned_partials()
    assert (tmp_path / "documents" / "thesis.txt").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_tidying_removes_no_target_of_a_link(kind: str, storage: LocalStorage, tmp_path: Path):
    storage.discard(storage.stage(OTHER))
    plant(kind, storage.folder / ".partial" / NAME, tmp_path)
    storage.remove_abandoned_partials()
    if kind == "link":
        assert (tmp_path / "target").read_bytes() == b"precious"


def test_a_partial_whose_lock_is_being_taken_is_not_removed(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    # Else whoever took the lock (the file was there) writes a dump without a
    # name; pg_dump makes another file, not locked, whose bytes nobody fsyncs.
    partial = storage.folder / ".partial" / NAME
    partial.parent.mkdir(parents=True)
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
    real = os.close
    had_its_name: list[bool] = []

    def close(number: int) -> None:
        real(number)
        with suppress(BlockingIOError):  # somebody holds it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            had_its_name.append(os.fstat(descriptor).st_nlink > 0)  # as stage() looks

    monkeypatch.setattr(os, "close", close)
    storage.remove_abandoned_partials()
    monkeypatch.undo()
    is_there = partial.exists()
    os.close(descriptor)
    assert had_its_name
    assert is_there or not any(had_its_name)


def test_stage_and_tidying_may_happen_at_once(storage: LocalStorage):
    storage.discard(storage.stage(OTHER))
    lost = 0
    with another_process(TIDY, storage.folder):
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            made = storage.stage(NAME)
            for _ in range(20):
                storage.staged_size(NAME)
            lost += not made.path.exists()
            storage.discard(made)
    assert lost == 0


def test_a_partial_that_vanishes_meanwhile_does_not_matter(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    storage.discard(storage.stage(OTHER))
    (storage.folder / ".partial" / NAME).touch()
    real = local.list_files

    def entries(*arguments: Any) -> Iterator[os.DirEntry[str]]:
        for entry in real(*arguments):
            Path(entry.path).unlink()
            yield entry

    monkeypatch.setattr(local, "list_files", entries)
    assert storage.remove_abandoned_partials() == []


def test_a_partial_that_takes_an_abandoned_one_s_name_stays(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    storage.discard(storage.stage(OTHER))
    abandoned = storage.folder / ".partial" / NAME
    abandoned.touch()
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        monkeypatch.undo()
        abandoned.unlink()
        abandoned.write_bytes(b"of somebody else")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert storage.remove_abandoned_partials() == []
    assert abandoned.read_bytes() == b"of somebody else"


def test_stage_begins_anew_where_its_file_was_tidied_away(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        (storage.folder / ".partial" / NAME).unlink()
        real(descriptor, operation)

    before = open_descriptors()
    monkeypatch.setattr(fcntl, "flock", flock)
    made = storage.stage(NAME)
    assert made.path.exists()
    assert os.fstat(made.descriptor).st_nlink == 1
    storage.discard(made)
    assert open_descriptors() == before


def test_lone_manifests_are_removed_and_no_others(storage: LocalStorage):
    published(storage)
    (storage.folder / f"{OTHER}.json").write_bytes(MANIFEST)
    foreign = ["package.json", "x.dumpling.json", "x.dump.json.bak", "a b.dump.json"]
    for name in foreign:
        (storage.folder / name).touch()
    assert storage.remove_lone_manifests() == [f"{OTHER}.json"]
    assert final_names(storage) == sorted([NAME, f"{NAME}.json", *foreign])


def test_who_tidies_manifests_never_removes_a_dump(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    published(storage)
    monkeypatch.setattr(storage, "has", lambda name: False)  # as where it looks a moment too late
    assert storage.remove_lone_manifests() == [f"{NAME}.json"]
    assert read(storage) == b"whole"


def test_a_manifest_stays_while_its_dump_is_about_to_be_published(storage: LocalStorage):
    with another_process(HOLD, storage.folder, NAME) as other:
        (storage.folder / f"{NAME}.json").write_bytes(MANIFEST)
        assert storage.remove_lone_manifests() == []
        other.kill()
        other.wait()
        assert storage.remove_lone_manifests() == [f"{NAME}.json"]


@pytest.mark.parametrize("step", ["fsync", "rename", "link", "unlink"])
def test_publish_and_tidying_may_happen_at_once(
    step: str, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    made = staged(storage)
    tidier = LocalStorage(storage.folder)
    real = getattr(os, step)
    tidying: list[bool] = []

    def tidy() -> None:
        if not tidying:
            tidying.append(True)
            tidier.remove_lone_manifests()
            tidier.remove_abandoned_partials()
            tidying.clear()

    def step_between_two_tidyings(*arguments: Any, **options: Any) -> Any:
        tidy()
        result = real(*arguments, **options)
        tidy()
        return result

    monkeypatch.setattr(os, step, step_between_two_tidyings)
    storage.publish(made, MANIFEST)
    monkeypatch.undo()
    storage.discard(made)
    assert read(storage) == b"whole"
    assert storage.manifest(NAME) == MANIFEST


def test_lone_manifests_that_vanish_meanwhile_do_not_matter(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    storage.folder.mkdir(parents=True)
    (storage.folder / f"{NAME}.json").touch()
    real = LocalStorage.has

    def has(self: LocalStorage, name: str) -> bool:
        (self.folder / f"{name}.json").unlink()
        return real(self, name)

    monkeypatch.setattr(LocalStorage, "has", has)
    assert storage.remove_lone_manifests() == [f"{NAME}.json"]


# What the parts promise


def test_names_are_made_durable_by_the_folder_itself(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    published(storage)
    synced: list[Path] = []
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink())
    )
    before = open_descriptors()
    storage.make_durable()
    assert synced == [storage.folder]
    storage.replace_manifest(NAME, b"{}")
    assert synced[-1] == storage.folder
    storage.delete(NAME)
    assert synced[-1] == storage.folder
    assert len(synced) == 4, "the bytes of the new manifest, and three times the names"
    assert open_descriptors() == before


def test_free_space_is_what_an_unprivileged_writer_has(storage: LocalStorage, small_disk: Path):
    assert not storage.folder.exists()
    above = shutil.disk_usage(storage.folder.parent.parent).free
    assert abs(storage.free_space() - above) < 1024**3
    small = LocalStorage(small_disk / "to be" / "made")
    assert small.free_space() == 1024**2
    (small_disk / "filler").write_bytes(bytes(512 * 1024))
    assert small.free_space() == 512 * 1024


@pytest.mark.parametrize("name", ["a" * 201 + ".dump", "A-9_z.dump", "0.dump"])
def test_a_name_may_be_as_long_as_that_and_no_longer(name: str, storage: LocalStorage):
    published(storage, name)
    assert storage.sizes() == {name: 5}
    longer = "a" * 202 + ".dump"
    (storage.folder / longer).touch()
    assert longer not in storage.sizes()
    with pytest.raises(ObjectMissing, match="no dump has such a name"):
        storage.stage(longer)


def test_a_partial_manifest_of_nobody_is_removed_and_what_is_no_name_of_ours_stays(
    storage: LocalStorage,
):
    partials = storage.folder / ".partial"
    partials.mkdir(parents=True)
    ours = [NAME, f"{NAME}.json.0a1b", f"{NAME}.json.0"]
    others = ["notes.txt", f"{NAME}.json", f"{NAME}.json.", f"{NAME}.json.xyz", f".{NAME}", "x"]
    others += [f"{NAME}.jsonx0a", f"{NAME}xjson.0a", NAME.replace(".", "x")]
    for name in [*ours, *others]:
        (partials / name).touch()
    assert sorted(storage.remove_abandoned_partials()) == sorted(ours)
    assert sorted(each.name for each in partials.iterdir()) == sorted(others)


@only_linux
def test_a_lock_is_not_looked_for_through_a_link(tmp_path: Path):
    held, link = tmp_path / "held", tmp_path / "link"
    descriptor = locks.create_locked(held)
    link.symlink_to(held)
    try:
        assert locks.is_locked(held)
        assert not locks.is_locked(link)
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            locks.remove_unlocked(link)
        assert not locks.remove_unlocked(held)
    finally:
        os.close(descriptor)
    assert not locks.is_locked(held)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        locks.remove_unlocked(link)
    assert link.is_symlink()
    assert locks.remove_unlocked(held)
    assert not held.exists()
    assert not locks.remove_unlocked(held)
    assert not locks.is_locked(held)


def test_a_file_that_vanishes_before_it_is_removed_was_not_ours_to_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        (tmp_path / "file").unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    before = open_descriptors()
    assert locks.remove_unlocked(tmp_path / "file") is False
    assert open_descriptors() == before


ASK_A_PIPE = """
import sys
from pathlib import Path
from app import locks

pipe = Path(sys.argv[1])
print(locks.is_locked(pipe), locks.remove_unlocked(pipe), pipe.exists())
"""


def test_a_pipe_in_place_of_a_file_holds_nobody_up(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    ended = subprocess.run(
        [sys.executable, "-c", ASK_A_PIPE, tmp_path / "pipe"],
        cwd=ROOT, env=plain_environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == ("False True False\n", "")


def test_to_ask_for_a_lock_takes_none(tmp_path: Path):
    held = tmp_path / "held"
    descriptor = locks.create_locked(held)
    before = open_descriptors()
    assert locks.is_locked(held)
    assert not locks.remove_unlocked(held)
    assert open_descriptors() == before
    os.close(descriptor)
    assert not locks.is_locked(held)
    assert open_descriptors() == before - 1
    assert stat.S_IMODE(held.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        locks.create_locked(held)
