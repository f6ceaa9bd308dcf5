"""Connections and bodies of nobody in particular, against a real web process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from flask import Flask

from app.auth import is_signed_cookie
from app.cli import connections
from app.config import UPLOAD_PART
from tests.conftest import signed_in
from tests.test_web import PATIENCE, Web, wait_until
from tests.test_web import web as web  # noqa: PLC0414 - a fixture

PATHS = ["/admin/login", "/api/admin/session", "/api/admin/uploads/x", "/nothing", "/healthz"]


def head(path: str, length: str, cookie: str = "") -> bytes:
    lines = [f"PATCH {path} HTTP/1.1", "Host: 127.0.0.1", length]
    lines += [f"Cookie: {cookie}"] if cookie else []
    return "\r\n".join([*lines, "", ""]).encode()


def spooled(web: Web) -> list[str]:
    """Bodies that lie on the disk."""
    return [each.path for each in web.process.open_files() if "(deleted)" in each.path]


@pytest.mark.parametrize("path", PATHS)
def test_a_large_body_of_a_stranger_is_refused_before_it_comes(web: Web, path: str):
    answer = web.said(b"GET /admin/login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    strangers = answer.partition(b"Set-Cookie: ")[2].partition(b";")[0].decode()  # nobody's yet
    assert strangers.startswith("backstop=")
    for cookie in ("", strangers, "backstop=x", web.cookie[:-1], f"other={web.cookie}"):
        answer = web.said(head(path, f"Content-Length: {UPLOAD_PART}", cookie))
        assert answer[:13] == b"HTTP/1.1 413 ", (cookie, answer)
    chunk = b"%x\r\n" % 65_000 + b"x" * 65_000 + b"\r\n"
    chunks = head(path, "Transfer-Encoding: chunked") + chunk * 4
    assert web.said(chunks)[:13] == b"HTTP/1.1 413 "
    assert spooled(web) == []


def test_a_part_of_an_admin_is_read(panel: Flask, web: Web):
    body = {"name": "x", "size": UPLOAD_PART}
    place = web.ask("POST", "/api/admin/uploads", body).headers["Location"]
    part = b"PGDMP" + bytes(UPLOAD_PART - 5)
    answer = web.ask("PATCH", place, part, Upload_Offset="0")
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(UPLOAD_PART))
    assert web.ask("DELETE", place).status == 200


def test_one_address_does_not_take_all_connections(web: Web):
    with ExitStack() as stack:

        def connect(address: str) -> socket.socket:
            there = ("127.0.0.1", web.port)
            return stack.enter_context(
                closing(socket.create_connection(there, PATIENCE, source_address=(address, 0)))
            )

        def is_served(line: socket.socket) -> bool:
            try:
                line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return line.recv(15) == b"HTTP/1.1 200 OK"
            except OSError:
                return False

        idle = [connect("127.0.0.1") for _ in range(connections.MOST_OF_AN_ADDRESS)]
        wait_until(lambda: not is_served(connect("127.0.0.1")), "the address to have enough")
        assert is_served(connect("127.0.0.2"))
        idle.pop().close()
        wait_until(lambda: is_served(connect("127.0.0.1")), "a place that was left")


@pytest.fixture
def short_patience(panel: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that soon ends what is silent."""
    monkeypatch.setattr(connections, "IDLE", 3)
    server = connections.guarded_server(panel, "127.0.0.1:0", behind_proxy=True, threads=1)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.effective_port
    server.close()
    thread.join()


def test_a_connection_that_is_silent_is_ended(short_patience: int):
    with closing(socket.create_connection(("127.0.0.1", short_patience), PATIENCE)) as line:
        assert line.recv(1) == b""


def test_only_a_cookie_of_this_panel_counts(panel: Flask, tmp_path: Path):
    cookie = signed_in(panel).get_cookie("backstop")
    assert cookie is not None
    for header, ours in (
        (f"backstop={cookie.value}", True),
        (f"a=b; __Host-backstop-3000={cookie.value}", True),
        (f"backstop=x; backstop={cookie.value}", False),  # the first of a name counts
        (f"backstop-1=x; backstop={cookie.value}", True),
        (f"another={cookie.value}", False),
        (f"backstop={cookie.value}x", False),
        ("", False),
        ("\xff\xfe=;;;", False),
    ):
        assert is_signed_cookie(panel, header) is ours, header
