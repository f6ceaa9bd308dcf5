"""Reach a PostgreSQL server through an SSH host, with this machine's own `ssh`.

ssh forwards a Unix socket in a private folder, which no other user can open. It reads no
configuration, agent or known_hosts file, asks nothing, accepts the pinned host key only,
and on Linux ends with the thread that started it, even after SIGKILL.
"""

import os
import re
import select
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import psutil
import psycopg2

from app import locks
from app.errors import ConfigurationError, ConnectError, PostgresError
from app.pausing import pause
from app.postgres.connection import OnWait
from app.postgres.conninfo import Conninfo
from app.postgres.doorway import LOOPBACK, doorway
from app.postgres.embedded.cluster import is_fit_for_socket
from app.postgres.ssh_host import SshHost, find_program, fingerprint, is_host, ssh_error
from app.programs.background import Background, beside

_FOLDER = "backstop-tunnel-"
_KNOWN_HOSTS = "known_hosts"
_PORT = "5432"
_SOCKET = f".s.PGSQL.{_PORT}"
_ALIAS = "pinned"  # the host's name in our known_hosts file
_OPTIONS = {
    "BatchMode": "yes",
    "PreferredAuthentications": "publickey",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "StrictHostKeyChecking": "yes",
    "HostKeyAlias": _ALIAS,
    "GlobalKnownHostsFile": "/dev/null",
    "UpdateHostKeys": "no",
    "ExitOnForwardFailure": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
}
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_TICK = 0.02  # seconds
_END_PATIENCE = 1.0  # seconds in which a lost ssh or a closed session ends
_SETUP = 60.0  # seconds in which a folder is certainly complete
_LAST_WORDS = 64 * 1024  # bytes of ssh's log
# The GSSENCRequest of the protocol: servers answer it with one byte, and log nothing if
# we leave then.
_KNOCK = struct.pack("!II", 8, 80_877_104)


@contextmanager
def tunnel(
    ssh: SshHost, info: Conninfo, *, patience: float = 30, on_wait: OnWait = None
) -> Iterator[Conninfo]:
    """The way to `info` through `ssh`, open during a with block of one thread.

    The SSH host resolves the server's name. With sslmode=disable, or where the URL names a
    socket of the SSH host, libpq uses our Unix socket. Otherwise it uses a port that only
    our programs can enter, since it has no TLS over Unix sockets; `host` stays the name
    that verify-full compares, and sslmode, certificates and channel binding work as without
    a tunnel. Lines of a personal ~/.pgpass may not match.

    `on_wait` is called several times a second until PostgreSQL answers. Raises ConnectError
    if it does not within `patience` seconds, or if the way is lost while an error of
    PostgreSQL leaves the block; ConfigurationError, ToolError; and what `on_wait` raises.
    """
    target = _target(info)
    _check_identity(ssh.identity_file)
    with (
        _private_folder(ssh) as folder,
        doorway(folder / _SOCKET) if _may_use_tls(info) else nullcontext() as port,
        tempfile.TemporaryFile() as log,
        beside(_argv(ssh, folder, target), environment=_ENVIRONMENT, log=log) as process,
    ):
        way = _Way(ssh, info, process, log)
        way.open(folder / _SOCKET, time.monotonic() + patience, on_wait)
        try:
            yield _through(info, folder, port)
        except (PostgresError, psycopg2.Error) as error:
            if way.is_lost():
                message = f"the SSH connection to {ssh} was lost"
                raise ssh_error(message, way.words) from error
            raise
        finally:
            way.let_sessions_end(folder / _SOCKET)


def _target(info: Conninfo) -> str:
    """The server as ssh takes it after our socket."""
    host = _server_host(info)
    port = info.parameters.get("port") or os.environ.get("PGPORT") or _PORT
    if port.isdigit():
        if is_host(host):
            return f"[{host}]:{port}"
        if host.startswith("/") and is_fit_for_socket(Path(host)):
            return f"{host}/.s.PGSQL.{port}"
    raise ConfigurationError(
        "an SSH tunnel needs the name of one database server",
        detail="The URL names none, several, or one with unusual characters.",
        hint="Name the server as the SSH host sees it: localhost is the SSH host itself.",
    )


def _server_host(info: Conninfo) -> str:
    return info.parameters.get("hostaddr") or info.parameters.get("host") or ""


def _check_identity(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(
            "the SSH identity file cannot be read", detail=f"{path}: {error.strerror}."
        ) from error


@contextmanager
def _private_folder(ssh: SshHost) -> Iterator[Path]:
    """A folder for our socket, with the pinned key in a file that shows that we live."""
    parents = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108 - the name is random
    fitting = (folder for folder in parents if is_fit_for_socket(folder / f"{_FOLDER}12345678"))
    parent = next(fitting, None)
    if parent is None:
        raise ConfigurationError(
            "there is no folder for the socket of an SSH tunnel",
            hint="Set TMPDIR to a folder with a short, plain name.",
        )
    _remove_stale_folders(parent)
    with tempfile.TemporaryDirectory(
        prefix=_FOLDER, dir=parent, ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        with os.fdopen(locks.create_locked(folder / _KNOWN_HOSTS), "w", encoding="ascii") as file:
            file.write(f"{_ALIAS} {ssh.host_key}\n")
            file.flush()
            yield folder


def _remove_stale_folders(parent: Path) -> None:
    """Remove the folders of killed processes."""
    for folder in parent.glob(f"{_FOLDER}*"):
        with suppress(OSError):
            status = folder.lstat()
            if status.st_uid != os.geteuid() or time.time() < status.st_mtime + _SETUP:
                continue  # others could replace theirs meanwhile; a new file is not locked yet
            if locks.remove_unlocked(folder / _KNOWN_HOSTS):
                shutil.rmtree(folder, ignore_errors=True)


def _argv(ssh: SshHost, folder: Path, target: str) -> list[str]:
    options = _OPTIONS | {"UserKnownHostsFile": str(folder / _KNOWN_HOSTS)}
    return [
        find_program("ssh"), "-F", "none", "-N", "-T", "-a", "-x",
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
        "-i", str(ssh.identity_file), "-l", ssh.user, "-p", str(ssh.port),
        "-L", f"{folder / _SOCKET}:{target}", "--", ssh.host,
    ]  # fmt: skip


def _may_use_tls(info: Conninfo) -> bool:
    mode = info.parameters.get("sslmode") or os.environ.get("PGSSLMODE")
    return mode != "disable" and not _server_host(info).startswith("/")


def _through(info: Conninfo, folder: Path, port: int | None) -> Conninfo:
    at = dict(info.parameters)
    if port is None:  # an empty hostaddr keeps PGHOSTADDR out
        at |= {"host": str(folder), "hostaddr": "", "port": _PORT}
    else:
        name = at.get("host") or at["hostaddr"]
        at |= {"host": name, "hostaddr": LOOPBACK, "port": str(port)}
    return replace(info, parameters=at)


@dataclass(frozen=True)
class _Way:
    """A running ssh, and what it says."""

    ssh: SshHost
    info: Conninfo
    process: Background
    log: IO[bytes]

    @property
    def words(self) -> str:
        # The file's position belongs to ssh, which is writing.
        file = self.log.fileno()
        start = max(os.fstat(file).st_size - _LAST_WORDS, 0)
        return os.pread(file, _LAST_WORDS, start).decode("utf-8", "replace")

    def open(self, path: Path, deadline: float, on_wait: OnWait) -> None:
        """Wait until PostgreSQL answers; raises as `tunnel`."""

        def wait() -> None:
            if on_wait is not None:
                on_wait()
            if self.process.status is not None:
                raise self._refusal()
            if time.monotonic() > deadline:
                message = f"no answer from {self.info.server} through {self.ssh}"
                raise ConnectError(message, detail="Timeout expired.")

        while (line := _connected(path)) is None:
            wait()
            pause(_TICK)
        with line:
            with suppress(ConnectionError):  # ssh has closed it already
                line.sendall(_KNOCK)
            while not select.select([line], [], [], _TICK)[0]:
                wait()
            if not _answer(line) and "open failed" in self.words:
                message = f"no connection from {self.ssh} to {self.info.server}"
                raise ssh_error(message, self.words)

    def is_lost(self) -> bool:
        """Whether ssh has ended, for which it is given a moment."""
        deadline = time.monotonic() + _END_PATIENCE
        while self.process.status is None and time.monotonic() < deadline:
            pause(_TICK)
        return self.process.status is not None

    def let_sessions_end(self, path: Path) -> None:
        """Wait for sessions that were closed; the server would log them as lost."""
        deadline = time.monotonic() + _END_PATIENCE
        with suppress(psutil.Error):  # ssh has ended
            ssh = psutil.Process(self.process.pid)
            while time.monotonic() < deadline:
                lines = [
                    line for line in ssh.net_connections("unix") if str(line.laddr) == str(path)
                ]
                if len(lines) <= 1:  # where ssh listens
                    return
                pause(_TICK)

    def _refusal(self) -> ConnectError:
        error = ssh_error(f"no SSH connection to {self.ssh}", self.words)
        if "Host key" in error.detail:
            sent = re.search(r"SHA256:[\w+/]+", self.words)
            error.detail += f" The host sent {sent[0]}." if sent else ""
            error.detail += f" The pinned key is {fingerprint(self.ssh.host_key)}."
        return error


def _connected(path: Path) -> socket.socket | None:
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(str(path))
    except OSError:  # ssh does not listen yet
        line.close()
        return None
    return line


def _answer(line: socket.socket) -> bytes:
    try:
        return line.recv(1)
    except OSError:
        return b""
