"""A real panel with a home of its own, and a client that asks it as curl would."""

import http.client
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from app.config import ROOT
from bench.harness import Taken, timed

PATIENCE = 3600  # seconds that a backup may take, also of a large database
_FLASK = [sys.executable, "-m", "flask"]


class Refused(Exception):
    """The panel has answered with an error."""


@dataclass(frozen=True)
class Client:
    """Somebody who is signed in; each request has a connection of its own."""

    port: int
    headers: Mapping[str, str]

    def ask(self, path: str, method: str = "GET", body: Mapping[str, Any] | None = None) -> bytes:
        """The body of the answer. Raises Refused."""
        return self._answer(path, method, body)[1]

    def json(self, path: str, method: str = "GET", body: Mapping[str, Any] | None = None) -> Any:
        return json.loads(self.ask(path, method, body))

    def signed_in(self, password: str) -> "Client":
        given = {"username": "admin", "password": password}
        headers, _ = self._answer("/api/admin/session", "POST", given)
        return Client(self.port, {"Cookie": str(headers["Set-Cookie"]).partition(";")[0]})

    def _answer(
        self, path: str, method: str, body: Mapping[str, Any] | None
    ) -> tuple[http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            sent, headers = None, dict(self.headers)
            if body is not None:
                sent, headers["Content-Type"] = json.dumps(body), "application/json"
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise Refused(f"{method} {path}: {answer.status} {content[:500]!r}")
        return answer.headers, content


@dataclass(frozen=True)
class Panel:
    """A running panel."""

    home: "Home"
    process: psutil.Process
    client: Client
    started: float  # seconds that its start took

    def guard(self, name: str, url: str) -> None:
        """Add a database."""
        self.client.ask("/api/admin/databases", "POST", {"name": name, "url": url})

    def back_up(self, database: str = "") -> dict[str, Any]:
        """The row of a new backup, which is whole; by default of the home's database."""
        body = {"database": database} if database else None
        answer = self.client.json("/api/admin/backup", "POST", body)
        assert answer["backup"]["status"] == "COMPLETED", answer
        row: dict[str, Any] = answer["backup"]
        return row

    def timed_backup(self, database: str = "") -> Taken:
        """From request to COMPLETED; the backup is removed again."""
        row = self.back_up(database)
        self.delete(row)
        return {"s": seconds_of(row), "MB": row["size"] / 1e6}

    def delete(self, row: Mapping[str, Any]) -> None:
        self.client.ask(f"/api/admin/backup/{row['filename']}", "DELETE")

    def restore(self, filename: str, way: str, **body: str) -> dict[str, Any]:
        """The row of a drill (`drills`) or a restore (`restores`) that has succeeded."""
        path = f"/api/admin/backup/{filename}/{way}"
        row = self.client.json(path, "POST", body or None)["restore"]
        while row["status"] == "PENDING":
            time.sleep(0.2)
            row = self.client.json(f"/api/admin/restores/{row['id']}")
        assert row["status"] == "COMPLETED", row["error"]
        return row

    def peak(self, command: str) -> float:
        """The most memory that `flask web` or `flask worker` has had, in MB."""
        for child in self.process.children():
            if child.cmdline()[-1] == command:
                status = Path(f"/proc/{child.pid}/status").read_text()
                (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
                return int(kib) * 1024 / 1e6
        raise AssertionError(command)


@dataclass(frozen=True)
class Home:
    """The files of a panel, and the database that it guards."""

    folder: Path
    url: str = field(repr=False)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    more: Mapping[str, str] = field(default_factory=dict, repr=False)  # settings

    def environment(self, **more: str) -> dict[str, str]:
        plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return plain | {
            "FLASK_SKIP_DOTENV": "1",
            "DATABASE_URL": self.url,
            "BACKSTOP_INSTANCE_DIR": str(self.folder / "instance"),
            "BACKSTOP_BACKUP_DIR": str(self.folder / "backups"),
            "BACKSTOP_ADMIN_PASSWORD": self.password,
            "BACKSTOP_API_WAIT": str(PATIENCE),
            **self.more,
            **more,
        }

    def dump(self, filename: str) -> Path:
        return self.folder / "backups" / filename

    def flask(self, *words: str) -> str:
        """Run a command and return what it prints."""
        self.folder.mkdir(exist_ok=True)
        argv, environment = [*_FLASK, *words], self.environment()
        ended = subprocess.run(
            argv, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def timed_flask(self, *words: str) -> float:
        with timed() as taken:
            self.flask(*words)
        return taken["s"]

    @contextmanager
    def panel(self, command: str = "panel") -> Iterator[Panel]:
        """`flask panel`, or `flask web` alone, until it answers and to the end of the block."""
        self.folder.mkdir(exist_ok=True)
        port, log = _free_port(), self.folder / "log"
        environment = self.environment(BACKSTOP_LISTEN=f"127.0.0.1:{port}")
        with log.open("ab") as output, timed() as taken:
            process = psutil.Popen(
                [*_FLASK, command], cwd=ROOT, env=environment, stdout=output, stderr=output
            )
            try:
                _wait_until_it_answers(process, port, log)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        try:
            client = Client(port, {}).signed_in(self.password)
            yield Panel(self, process, client, taken["s"])
        finally:
            process.terminate()
            process.wait()


def seconds_of(row: Mapping[str, Any]) -> float:
    """From the request to the end, as a row has it."""
    asked, ended = (datetime.fromisoformat(row[key]) for key in ("createdAt", "finishedAt"))
    return (ended - asked).total_seconds()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait_until_it_answers(process: psutil.Popen, port: int, log: Path) -> None:
    while process.poll() is None:
        try:
            Client(port, {}).ask("/healthz")
        except (OSError, http.client.HTTPException):
            time.sleep(0.01)
        else:
            return
    raise AssertionError(log.read_text())
