"""Ways to make a dump, and to hold one up."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.postgres.connection import OnWait, connect
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.dump import Limits, Request, dump
from app.postgres.embedded import cluster
from app.postgres.embedded.accounts import account_for
from app.postgres.locking import hold_lock
from app.postgres.snapshot import Snapshot, take_snapshot
from app.postgres.tools import Toolchain
from app.programs.command import Watch
from tests.conftest import Database, url_of
from tests.servers import a_server, leave_out

PATIENCE = 60  # seconds; what should come true does so much sooner
LIMITS = Limits(lock=5, stall=30, total=60)


def nothing(*_: object) -> None:
    """For callbacks that nobody asks for."""


def wait_until(is_true: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not is_true():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)


# Databases


def at(server: Conninfo, database: str, **changes: str) -> Conninfo:
    """The same server, another database."""
    return replace(server, parameters={**server.parameters, "dbname": database, **changes})


def take(database: Database, table: str) -> None:
    """Lock a table for a moment as DDL does, or fail at once where others hold it."""
    database.run(f"BEGIN; LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE NOWAIT; COMMIT")


def as_admin(server: Conninfo, database: str = "postgres") -> Database:
    return Database(database, url_of(server, database))


@pytest.fixture(scope="session")
def standing(server: Conninfo, shop_template: str) -> Iterator[Database]:
    """A small shop for tests that change nothing."""
    as_admin(server).run(f"CREATE DATABASE standing TEMPLATE {shop_template}")
    yield as_admin(server, "standing")
    as_admin(server).run("DROP DATABASE standing WITH (FORCE)")


@dataclass(frozen=True)
class Role:
    """A role of its own for one test."""

    name: str
    password: str


@pytest.fixture
def new_role(server: Conninfo) -> Iterator[Callable[..., Role]]:
    """Make roles that may sign in; they are dropped afterwards."""
    admin = as_admin(server)
    made: list[str] = []

    def make(options: str = "", *, password: str | None = None) -> Role:
        role = Role(f"test_{secrets.token_hex(6)}", password or secrets.token_urlsafe(12))
        admin.run(f"CREATE ROLE {role.name} LOGIN {options} PASSWORD %s", role.password)
        made.append(role.name)
        return role

    yield make
    for name in made:
        admin.run(f"DROP ROLE {name}")


def signed_in_as(role: Role, info: Conninfo) -> Conninfo:
    return replace(info, parameters={**info.parameters, "user": role.name}, password=role.password)


@contextmanager
def encrypted_server(folder: Path, hba: str = "") -> Iterator[Conninfo]:
    """A server that is reached by TCP and TLS; its certificate, server.crt, is for localhost."""
    if shutil.which("openssl") is None or sys.platform != "linux":
        leave_out("needs openssl, and an address of its own on loopback")
    home = folder / secrets.token_hex(3)
    home.mkdir()
    words = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", "server.key", "-out", "server.crt"]
    command = ["openssl", "req", *words.split(), *files]
    subprocess.run(command, cwd=home, check=True, capture_output=True)
    (home / "hba").write_text(hba or "host all all all scram-sha-256\n")
    account = account_for(home / "data")
    for path in (home, *home.iterdir()):
        os.chown(path, account.uid, account.gid)
    host = f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(250)}.2"
    settings = [
        f"ssl_cert_file = '{home}/server.crt'",
        f"ssl_key_file = '{home}/server.key'",
        f"hba_file = '{home}/hba'",
        "ssl = on",
    ]
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(cluster._SETTINGS, "listen_addresses", host)
            info = running.enter_context(a_server(15, home / "server", *settings))
        reached = {"host": host, "sslmode": "require"}
        yield replace(info, parameters={**info.parameters, **reached})


# Dumps


@contextmanager
def exported(info: Conninfo) -> Iterator[str]:
    """A snapshot without any lock: pg_dump can be held up at a table."""
    with connect(info, application_name="backstop test") as connection:
        connection.set_session("REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            cursor.execute("SELECT pg_export_snapshot()")
            row = cursor.fetchone()
            assert row is not None
            yield row[0]


def make_dump(
    chain: Toolchain, info: Conninfo, target: Path, *, over: Conninfo | None = None, **changes: Any
) -> list[str]:
    """Dump a database as a backup does it; `over` is another way for pg_dump alone."""
    lines: list[str] = []
    target.touch(mode=0o600)
    with ExitStack() as stack:
        if "snapshot" not in changes:
            changes["snapshot"] = stack.enter_context(exported(info))
        environment = stack.enter_context(client_environment(info, target.parent / "private"))
        options = {
            "compression": chain.compression(None),
            "environment": environment,
            "on_line": lines.append,
            "on_tick": nothing,
            "on_start": None,
            "limits": LIMITS,
        } | changes
        request = Request(
            chain,
            over or info,
            *(options.pop(key) for key in ("environment", "snapshot", "compression")),
        )
        callbacks = {key: options.pop(key) for key in ("on_line", "on_tick", "on_start")}
        dump(request, target, watch=Watch(**callbacks), **options)
    return lines


@contextmanager
def hold_snapshot(
    info: Conninfo,
    *,
    application_name: str,
    patience: float = 60,
    with_views: bool = False,
    on_wait: OnWait = None,
) -> Iterator[Snapshot]:
    """Lock the database against other dumps, and take a snapshot of it."""
    name = application_name
    with (
        hold_lock(info, application_name=name, patience=patience, on_wait=on_wait) as lock,
        take_snapshot(
            lock, application_name=name, with_views=with_views, on_wait=on_wait
        ) as snapshot,
    ):
        yield snapshot


def pg_dump_process() -> psutil.Process | None:
    """The pg_dump that this process runs just now."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.name() == "pg_dump":
                return child
    return None


# A server that is hard to reach


class Proxy:
    """A way to the server's socket that stops, or breaks, after some bytes."""

    def __init__(self, folder: Path, server: Conninfo, *, after: int, breaks: bool) -> None:
        self._after, self._breaks = after, breaks
        self._real = f"{server.parameters['host']}/.s.PGSQL.{server.parameters['port']}"
        self._over = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._real)
            self._open += [client, server]
            for pair in ((client, server, 0), (server, client, self._after)):
                thread = threading.Thread(target=self._carry, args=pair, daemon=True)
                thread.start()
                self._threads.append(thread)

    def _carry(self, source: socket.socket, target: socket.socket, limit: int) -> None:
        carried = 0
        with suppress(OSError):
            while chunk := source.recv(65_536):
                carried += len(chunk)
                if limit and carried > limit:
                    if self._breaks:
                        source.shutdown(socket.SHUT_RDWR)
                        target.shutdown(socket.SHUT_RDWR)
                    self._over.wait()
                    return
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in [self._listener, *self._open]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for each in [self._listener, *self._open]:
            each.close()


@pytest.fixture
def proxy(server: Conninfo, passable_dir: Path) -> Iterator[Callable[..., Conninfo]]:
    """Make ways to the server that let some bytes through to the client and then stop."""
    made: list[tuple[Path, Proxy]] = []

    def make(info: Conninfo, *, after: int, breaks: bool = False) -> Conninfo:
        folder = passable_dir / secrets.token_hex(3)
        folder.mkdir()
        made.append((folder, Proxy(folder, server, after=after, breaks=breaks)))
        return replace(info, parameters={**info.parameters, "host": str(folder), "port": "5432"})

    yield make
    for folder, each in made:
        each.close()
        shutil.rmtree(folder)
