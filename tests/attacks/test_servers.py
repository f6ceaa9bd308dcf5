"""A server that says whatever it likes before anybody has signed in."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from flask import Flask

from tests.conftest import signed_in
from tests.postgres.conftest import wait_until

SAID = (
    b"<script>alert(1)</script>\n2026-11-27 00:00:00 level=INFO forged=1 \x1b]0;pwn\x07"
    b" password=canary-pw url=postgresql://u:canary-pw@h/x \xff\xfe " + b"A" * 3000
)
_NO_ENCRYPTION = (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30")


def refuse(peer: socket.socket) -> None:
    """Answer as a server that lets nobody in, in its own words."""
    with peer, suppress(OSError, struct.error):
        while True:
            (length,) = struct.unpack("!I", peer.recv(4))
            if peer.recv(length - 4)[:4] not in _NO_ENCRYPTION:
                break
            peer.sendall(b"N")
        body = b"SFATAL\0VFATAL\0C28000\0M" + SAID + b"\0D" + SAID[:100] + b"\0\0"
        peer.sendall(b"E" + struct.pack("!I", len(body) + 4) + body)


@pytest.fixture
def hostile() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):  # nobody asks any more
                while True:
                    refuse(listener.accept()[0])

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def app(make_app: Callable[..., Flask], hostile: int) -> Flask:
    return make_app(database_url=f"postgresql://u:canary-pw@127.0.0.1:{hostile}/x")


@pytest.mark.usefixtures("worker")
def test_no_words_of_a_server_break_a_page(app: Flask, caplog: pytest.LogCaptureFixture):
    ann = signed_in(app)
    answer = ann.post("/api/admin/backup", json={}, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.content_type) == (502, "application/problem+json")
    assert "no connection to database" in answer.json["title"]
    told = [answer]
    for path in (
        "/admin/backup",
        "/admin/doctor",
        "/api/admin/doctor",
        "/admin/alarms",
        "/admin/audit",
    ):
        told.append(ann.get(path))
        assert told[-1].status_code == 200, path
    for each in told:
        assert "canary-pw" not in each.text
        if "html" in each.content_type:
            assert "<script>alert" not in each.text
    wait_until(lambda: "backup failed" in caplog.text, "the log")
    assert "canary-pw" not in caplog.text
    assert not [line for line in caplog.text.splitlines() if line.startswith("2026-11-27")]
    assert "Traceback" not in caplog.text
