"""flask web as a real process: waitress, real sockets, slow and rude clients."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from flask import Flask

from app.config import ROOT
from app.errors import AppError
from app.models import Status
from app.services.backups import listing
from app.services.backups.filters import Filters
from app.services.jobs.outcomes import record_failure
from app.services.recovery import reconcile
from tests.api.test_downloads import CONTENT, HOSTILE_NAMES, dump_of, planted, state_of
from tests.conftest import NO_SERVER, PASSWORD

PATIENCE = 60  # seconds until a test gives up waiting
MIB, GIB = 1024**2, 1024**3


@dataclass
class Answer:
    """What came back over the wire."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Web:
    """`flask web` on a port of its own, for the panel of an application."""

    def __init__(self, app: Flask) -> None:
        settings = app.extensions["backstop.settings"]
        with closing(socket.socket()) as probe, closing(socket.socket()) as another:
            for each in (probe, another):
                each.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
            self.metrics_port = int(another.getsockname()[1])
        self.environment = {
            name: value for name, value in os.environ.items() if name.startswith("COVERAGE")
        } | {
            "PATH": os.environ["PATH"],
            "FLASK_SKIP_DOTENV": "1",
            "BACKSTOP_INSTANCE_DIR": str(settings.instance_dir),
            "BACKSTOP_BACKUP_DIR": str(settings.backup_dir),
            "BACKSTOP_LISTEN": f"127.0.0.1:{self.port}",
            "BACKSTOP_METRICS_LISTEN": f"127.0.0.1:{self.metrics_port}",
            "BACKSTOP_API_WAIT": str(PATIENCE),
            "DATABASE_URL": NO_SERVER,
        }
        self.log = settings.instance_dir / "web.log"
        with self.log.open("w") as log:
            self.process = psutil.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        wait_until(self.listens, "the web process")
        self.cookie = ""

    command = (sys.executable, "-m", "flask", "web")

    def listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Any = None,
        connection: http.client.HTTPConnection | None = None,
        **headers: str,
    ) -> Answer:
        """One request and its whole answer; Content_Type=… is the header Content-Type."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            named["Cookie"] = self.cookie
        if body is not None and not isinstance(body, bytes):
            named["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        with ExitStack() as stack:
            if connection is None:
                connection = stack.enter_context(closing(self.connection()))
            connection.request(method, path, body, named)
            with connection.getresponse() as answer:
                return Answer(answer.status, answer.headers, answer.read())

    def sign_in(self) -> None:
        answer = self.ask("POST", "/api/admin/session", {"username": "admin", "password": PASSWORD})
        assert answer.status == 200
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]

    def said(self, request: bytes) -> bytes:
        """What comes back for these very bytes, until it is over."""
        with closing(socket.create_connection(("127.0.0.1", self.port), PATIENCE)) as line:
            heard = b""
            try:
                line.sendall(request)
                while chunk := line.recv(65_536):
                    heard += chunk
            except (ConnectionResetError, BrokenPipeError):
                pass  # it may hang up on somebody who talks on
            return heard

    def lives(self) -> bool:
        return self.process.poll() is None and self.ask("GET", "/admin/backup").status == 200


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def web(panel: Flask) -> Iterator[Web]:
    """The web process, with an admin signed in; in the end it goes as it should."""
    web = Web(panel)
    try:
        web.sign_in()
        yield web
    finally:
        web.process.send_signal(signal.SIGTERM)
        status = web.process.wait(PATIENCE)
    assert status == 0
    assert "Traceback" not in web.log.read_text()


@dataclass
class Download:
    """A client that asks for a dump, reads a little and then no more."""

    line: socket.socket
    head: str
    body: bytes

    @classmethod
    def begin(cls, web: Web, filename: str, asked: str) -> "Download":
        line = socket.socket()
        line.settimeout(PATIENCE)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        line.connect(("127.0.0.1", web.port))
        line.sendall(
            f"GET /api/admin/backup/{filename} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n"
            f"Cookie: {web.cookie}\r\nRange: {asked}\r\n\r\n".encode()
        )
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += line.recv(4096)
        head, _, body = heard.partition(b"\r\n\r\n")
        return cls(line, head.decode("latin-1"), body)

    def read(self, length: int) -> bytes:
        while len(self.body) < length:
            chunk = self.line.recv(1 << 20)
            assert chunk, "it ended too early"
            self.body += chunk
        return self.body[:length]


def test_twenty_stalled_downloads_and_a_waiting_request_hold_nobody_up(panel: Flask, web: Web):
    """Four slow ranged downloads once held all four threads of the server."""
    size = 30 * MIB
    filename = planted(panel, b"", size=size)
    with dump_of(panel, filename).open("r+b") as dump:
        dump.truncate(size)
        for offset in (0, 17 * MIB, size - 9):
            dump.seek(offset)
            dump.write(b"something")
    answers: list[Answer] = []
    waiting = threading.Thread(
        target=lambda: answers.append(web.ask("POST", "/api/admin/backup", {"notes": "waits"}))
    )
    with ExitStack() as stack:
        downloads = []
        for number in range(20):
            downloads.append(Download.begin(web, filename, f"bytes={number}-{size - 1}"))
            stack.enter_context(closing(downloads[-1].line))
        for number, each in enumerate(downloads):
            assert each.head.startswith("HTTP/1.1 206 ")
            assert f"Content-Length: {size - number}\r\n" in each.head + "\r\n"
        waiting.start()
        wait_until(lambda: pending(panel), "the waiting request")

        page = web.ask("GET", "/admin/backup")
        assert page.status == 200
        assert b"Pending" in page.body
        assert web.ask("GET", "/api/admin/backup").status == 200
        assert web.ask("GET", "/static/css/panel.css").status == 200
        assert waiting.is_alive()

        assert downloads[3].read(size - 3) == dump_of(panel, filename).read_bytes()[3:]
    for backup_id in pending(panel):
        with panel.app_context():
            record_failure(backup_id, AppError("ended by the test"))
    waiting.join(PATIENCE)
    assert answers[0].status == 502
    assert web.lives()
    dump = str(dump_of(panel, filename))
    wait_until(
        lambda: dump not in [each.path for each in web.process.open_files()],
        "the dump to be closed after the clients have gone",
    )


def pending(app: Flask) -> list[str]:
    with app.app_context():
        return [each.id for each in listing.list_backups(Filters(status=Status.PENDING)).backups]


def test_ranges_of_a_dump_of_five_gibibytes_are_right(panel: Flask, web: Web):
    size = 5 * GIB
    filename = planted(panel, b"", size=size)
    marks = {
        0: b"at the start....",
        2 * GIB - 8: b"around 2 GiB....",
        4 * GIB - 8: b"around 4 GiB....",
        4 * GIB + 12_345: b"beyond 4 GiB....",
        size - 16: b"at the very end.",
    }
    with dump_of(panel, filename).open("r+b") as dump:
        dump.truncate(size)
        for offset, mark in marks.items():
            dump.seek(offset)
            dump.write(mark)
    url = f"/api/admin/backup/{filename}"
    with closing(web.connection()) as line:
        for offset, mark in marks.items():
            answer = web.ask(
                "GET", url, connection=line, Range=f"bytes={offset}-{offset + len(mark) - 1}"
            )
            assert answer.status == 206
            assert answer.body == mark
            assert answer.headers["Content-Range"] == f"bytes {offset}-{offset + 15}/{size}"
        answer = web.ask("GET", url, connection=line, Range="bytes=-16")
        assert answer.body == b"at the very end."
        answer = web.ask("GET", url, connection=line, Range=f"bytes={size - 16}-")
        assert answer.body == b"at the very end."
        answer = web.ask("GET", url, connection=line, Range=f"bytes={size}-")
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{size}"
        head = web.ask("HEAD", url, connection=line)
        assert (head.status, head.headers["Content-Length"]) == (200, str(size))
        # A piece of a MiB that crosses the limit of 32 bits.
        start = 4 * GIB - MIB // 2
        answer = web.ask("GET", url, connection=line, Range=f"bytes={start}-{start + MIB - 1}")
        with dump_of(panel, filename).open("rb") as dump:
            dump.seek(start)
            assert answer.body == dump.read(MIB)
    begun = Download.begin(web, filename, f"bytes={2 * GIB - 8}-")
    with closing(begun.line):
        assert f"Content-Length: {3 * GIB + 8}" in begun.head
        assert f"Content-Range: bytes {2 * GIB - 8}-{size - 1}/{size}" in begun.head
        assert begun.read(16) == b"around 2 GiB...."
    assert web.ask("DELETE", url).status == 200
    assert not dump_of(panel, filename).exists()


def test_answers_on_one_connection_do_not_run_into_each_other(panel: Flask, web: Web):
    """What has no body sends none, and what is announced is sent to the last byte."""
    url = f"/api/admin/backup/{planted(panel)}"
    with closing(web.connection()) as line:
        whole = web.ask("GET", url, connection=line)
        assert whole.body == CONTENT
        assert web.ask("HEAD", url, connection=line).body == b""
        assert web.ask("GET", url, connection=line, Range="bytes=9-19").body == CONTENT[9:20]
        tag = whole.headers["ETag"]
        assert web.ask("GET", url, connection=line, If_None_Match=tag).status == 304
        assert web.ask("GET", url, connection=line, Range="bytes=99999999-").status == 416
        assert web.ask("GET", url, connection=line, Range="bytes=0-0,5-9").body == CONTENT
        assert web.ask("HEAD", "/admin/backup", connection=line).body == b""
        assert web.ask("GET", "/admin/backup", connection=line).status == 200
        assert web.ask("DELETE", url, connection=line).status == 200


def test_it_does_not_say_what_it_is(web: Web):
    assert "Server" not in web.ask("GET", "/admin/login").headers


def test_figures_have_an_address_of_their_own_where_nothing_else_is(web: Web):
    others = http.client.HTTPConnection("127.0.0.1", web.metrics_port, timeout=PATIENCE)
    with closing(others):
        others.request("GET", "/metrics")
        assert b"backstop_backups" in others.getresponse().read()
        others.request("GET", "/admin/login")
        with others.getresponse() as answer:
            assert answer.status == 404
    assert web.ask("GET", "/metrics").status == 404  # there is no token
    assert web.ask("GET", "/readyz").status == 503  # nor a worker


def test_headers_of_a_proxy_that_is_not_there_are_not_believed(web: Web):
    forged = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "evil.example"}
    answer = web.ask("GET", "/admin/login", **forged)
    assert "Strict-Transport-Security" not in answer.headers
    body = {"username": "admin", "password": PASSWORD}
    answer = web.ask("POST", "/api/admin/session", body, **forged)
    assert "Secure" not in answer.headers["Set-Cookie"]
    web.sign_in()  # it ended the session that we had


def test_a_body_of_70_kilobytes_is_a_problem(panel: Flask, web: Web):
    before = state_of(panel)
    answer = web.ask("POST", "/api/admin/backup", {"notes": "x" * 70_000})
    assert answer.status == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body)["status"] == 413
    assert state_of(panel) == before


@pytest.mark.parametrize("way", ["with its length", "in chunks"])
def test_a_body_of_two_megabytes_is_answered_and_the_server_lives(panel: Flask, web: Web, way: str):
    before = state_of(panel)
    size = 2 * MIB
    body = b'{"notes": "' + b"x" * (size - 13) + b'"}'
    assert len(body) == size
    length = f"Content-Length: {size}"
    if way == "in chunks":
        length = "Transfer-Encoding: chunked"
        chunks = [body[at : at + 65_536] for at in range(0, size, 65_536)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    head = (
        f"POST /api/admin/backup HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nCookie: {web.cookie}\r\n{length}\r\n\r\n"
    )
    assert web.said(head.encode() + body)[:13] == b"HTTP/1.1 413 "
    assert state_of(panel) == before
    assert web.lives()


def test_a_small_body_in_chunks_is_a_body(panel: Flask, web: Web):
    filename = planted(panel)
    chunk = b'{"notes": "in chunks"}'
    said = web.said(
        f"PATCH /api/admin/backup/{filename} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n"
        "Connection: close\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n"
        f"Cookie: {web.cookie}\r\n\r\n".encode()
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(chunk), chunk)
    )
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b'"notes":"in chunks"' in said


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /admin/backup HTTP/9.9\r\n\r\n",
        b"GET /admin\0/backup HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET http://evil.example/admin/backup HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET //evil.example/admin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 600_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 600_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /admin/backup HTTP/1.1\r\nHost: <script>\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: \xff\xfe=\0;;;==\r\nConnection: close\r\n\r\n",
    ],
    ids=lambda value: ascii(value[:60]),
)
def test_a_request_that_makes_no_sense_is_answered_and_the_server_lives(web: Web, request_: bytes):
    answer = web.said(request_)
    if answer:  # it may hang up on somebody who talks on
        assert answer.startswith(b"HTTP/1.")
        assert int(answer.split()[1]) in {*range(200, 500), 501}
        assert b"evil.example" not in answer
        assert b"Traceback" not in answer
    assert web.lives()


def test_no_address_reaches_another_file(panel: Flask, web: Web):
    """Over the wire nothing tidies up an address before it is sent."""
    folder = dump_of(panel, "")
    (folder.parent / "secret").write_text("never to be seen")
    filename = planted(panel)
    with panel.app_context():
        reconcile()  # what an earlier test left to the web process, which looks each 30 seconds
    before = state_of(panel)
    names = [name.format(filename) for name in HOSTILE_NAMES]
    with closing(web.connection()) as line:
        for name in [*names, "../../../../../../etc/passwd", "..;/secret", "%c0%ae%c0%ae/secret"]:
            for method, path in [
                ("GET", f"/api/admin/backup/{name}"),
                ("DELETE", f"/api/admin/backup/{name}"),
                ("GET", f"/admin/backup/{name}/download"),
                ("GET", f"/static/{name}"),
                ("GET", f"/bootstrap/static/{name}"),
            ]:
                answer = web.ask(method, path, connection=line)
                assert answer.status in (404, 308), (method, path)
                assert b"never to be seen" not in answer.body
                assert b"root:" not in answer.body
    assert state_of(panel) == before


def test_a_client_that_goes_away_in_the_middle_harms_nobody(panel: Flask, web: Web):
    filename = planted(panel, b"x" * 20 * MIB)
    for asked in ("bytes=0-", "bytes=5-9999999", "none"):
        begun = Download.begin(web, filename, asked)
        # Hang up with a reset, unread bytes and all.
        begun.line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        begun.line.close()
    with closing(socket.create_connection(("127.0.0.1", web.port), PATIENCE)) as line:
        line.sendall(b"POST /api/admin/backup HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
    assert web.lives()
    dump = str(dump_of(panel, filename))
    wait_until(
        lambda: dump not in [each.path for each in web.process.open_files()], "it to be closed"
    )


def test_a_taken_port_is_told_in_words(web: Web):
    ended = subprocess.run(
        web.command, cwd=ROOT, env=web.environment, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert f"Error: cannot listen on 127.0.0.1:{web.port}" in ended.stderr
    assert "BACKSTOP_LISTEN" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert web.lives()


def test_a_bare_delete_removes_a_backup_unless_it_is_pinned_or_pending(panel: Flask, web: Web):
    """With the session's cookie and nothing else, also the last good one: as curl -X DELETE."""
    last, pinned = planted(panel), planted(panel, database="other")
    pending = planted(panel, status=Status.PENDING)
    web.ask("POST", f"/api/admin/backup/{pinned}/pin", {"reason": "audit"})
    for filename, title in ((pinned, "unpin it first"), (pending, "is still being made")):
        answer = web.ask("DELETE", f"/api/admin/backup/{filename}")
        assert (answer.status, title in json.loads(answer.body)["title"]) == (409, True)
        assert web.ask("GET", f"/api/admin/backup/{filename}/details").status == 200
    assert web.ask("DELETE", f"/api/admin/backup/{pinned}/pin").status == 200
    for filename in (last, pinned):
        answer = web.ask("DELETE", f"/api/admin/backup/{filename}")
        assert (answer.status, json.loads(answer.body)["success"]) == (200, True)
        assert web.ask("GET", f"/api/admin/backup/{filename}/details").status == 404
        assert not dump_of(panel, filename).exists()
    with panel.app_context():
        record_failure(listing.get_backup(pending).id, AppError("it was only planted"))
