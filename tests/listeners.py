"""Who listens to messages: real HTTP servers on loopback, right ones and wrong ones."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Listener:
    """What was heard; `answers` may be changed at any time."""

    answers: int = 200
    heard: list[tuple[str, str]] = field(default_factory=list)  # path and body
    fetched: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    at: str = ""

    @property
    def url(self) -> str:
        return f"json://ann:canary-pw@{self.at}/canary-path"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.heard]

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.messages]


@contextmanager
def listening(answers: int = 200, *, hangs: bool = False) -> Iterator[Listener]:
    """A server that answers with this status, or takes a message and never answers."""
    listener = Listener(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listener.fetched.append(self.path)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            listener.heard.append((self.path, body.decode()))
            if hangs:
                listener.release.wait()
            self.send_response(listener.answers)
            if listener.answers in (301, 302):
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing: pytest has enough to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    listener.at = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield listener
    finally:
        listener.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
