"""What a notifier's URL may reach: its own service, and nothing that is read for it."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.config import WEB_THREADS
from app.services.alerts import notifiers as service

NOTIFIERS = "/api/admin/notifiers"


@contextmanager
def secret_place() -> Iterator[tuple[str, list[str]]]:
    """An address in our network that is no business of a notifier, and who asked for it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "canary"}')

        def do_POST(self) -> None:
            self.send_response(500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "url",
    [
        "workflows://{at}/workflow/signature?template=http://{at}/secret",
        "workflows://{at}/workflow/signature?template={file}",
        "workflows://{at}/workflow/signature?template=file://{file}",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template=http://{at}/secret",
        "json://{at}/?attach=http://{at}/secret",
        "fcm://project@apikey/device?mode=oauth2&keyfile={file}",
        "fcm://project@apikey/device?mode=oauth2&keyfile=http://{at}/secret",
    ],
)
def test_a_url_has_no_file_and_no_address_read(ann: FlaskClient, tmp_path: Path, url: str):
    secret = tmp_path / "secret_key"
    secret.write_text("canary")
    with secret_place() as (at, asked):
        body = {"name": "n", "url": url.format(at=at, file=secret), "enabled": False}
        answers = [ann.post(NOTIFIERS, json=body)]
        if answers[0].status_code == 201:
            place = f"{NOTIFIERS}/{answers[0].json['notifier']['id']}"
            answers += [ann.post(f"{place}/test"), ann.delete(place)]
    assert asked == []
    assert "canary" not in "".join(each.text for each in answers)


@pytest.mark.parametrize(
    "scheme",
    [
        "file:///etc/passwd",
        "exec://id",
        "syslog://",
        "dbus://",
        "gnome://",
        "config:///x",
        "python://x",
    ],
)
def test_a_url_names_no_program_and_no_file(ann: FlaskClient, scheme: str):
    assert ann.post(NOTIFIERS, json={"name": "n", "url": scheme}).status_code == 422


def test_tests_that_hang_leave_threads_for_others(ann: FlaskClient):
    body = {"name": "n", "url": "json://127.0.0.1:1/x"}
    place = f"{NOTIFIERS}/{ann.post(NOTIFIERS, json=body).json['notifier']['id']}"
    with ExitStack() as hanging:
        for _ in range(WEB_THREADS // 2):
            service._tests.acquire()
            hanging.callback(service._tests.release)
        refused = ann.post(f"{place}/test")
        assert (refused.status_code, refused.json["title"]) == (409, "too many tests at once")
    assert ann.post(f"{place}/test").status_code == 502
    assert ann.delete(place).status_code == 200
