"""A data directory and its server: create, start, find and shut it down.

The server listens only on a socket, in a private folder that no other account can enter.
Its path is short, because a socket's path has at most 107 bytes.
"""

import os
import re
import shlex
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import psutil

from app.errors import ConfigurationError, ToolError
from app.pausing import pause
from app.postgres.embedded.accounts import Account
from app.postgres.embedded.installations import PARTIAL, Installation

SUPERUSER = "backstop"
PORT = "5432"  # part of the socket's name; there is no TCP

_SETTINGS = {
    "listen_addresses": "",
    "port": PORT,
    "unix_socket_permissions": "0700",
    "shared_buffers": "32MB",
    "fsync": "on",
    "logging_collector": "off",  # our log file serves
    "cluster_name": "backstop",
}
_SOCKET = f".s.PGSQL.{PORT}"
_LONGEST_SOCKET = 99  # bytes
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+-]+")  # libpq splits hosts at commas

_INITDB_TIMEOUT = 180  # seconds
_START_TIMEOUT = 120
_ENDINGS = ((signal.SIGINT, 60), (signal.SIGQUIT, 15), (signal.SIGKILL, 5))  # fast, immediate, …
_LEFTOVERS_TIMEOUT = 10
_TICK = 0.02

_LARGEST_LOG = 1_000_000  # bytes
_SHOWN_LINES = 12  # of the log in an error


@dataclass(frozen=True)
class Postmaster:
    """The main process of a running server."""

    process: psutil.Process
    socket_folder: Path | None  # not yet, in its first moments


@dataclass(frozen=True)
class Cluster:
    """A data directory, the programs that fit it, and the account that owns it."""

    data: Path
    log: Path
    installation: Installation
    account: Account

    def initialise(self, password: str) -> None:
        """Create the data directory under another name first, so that it is complete or missing."""
        unfinished = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self.data.parent))
        self.account.take(unfinished)
        with self._password_file(password) as password_file:
            self._run(
                "initdb", "-D", unfinished, "-E", "UTF8", "--no-locale", "--data-checksums",
                "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={password_file}",
                "--no-instructions",
            )  # fmt: skip
        unfinished.rename(self.data)

    def change_password(self, password: str) -> None:
        """Set the superuser's password without the old one; the server must be down."""
        self._run(
            "postgres", "--single", "-D", self.data, "-c", "exit_on_error=on",
            "-c", "log_min_error_statement=panic", "postgres",
            text=f"ALTER ROLE {SUPERUSER} PASSWORD '{password}'\n",
        )  # fmt: skip

    def start(self, socket_folder: Path) -> None:
        """Start the server and wait until it is ready; it outlives us and our terminal.

        Raises ToolError with the end of the server's log if it does not start.
        """
        settings = _SETTINGS | {"unix_socket_directories": str(socket_folder)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with _opened_log(self.log) as log:
            begin = log.tell()
            # The data directory goes into the environment: pg_ctl would pass it to a shell.
            ended = self.account.run(
                [
                    self.installation.folder / "pg_ctl", "start", "--silent", "--wait",
                    "--timeout", str(_START_TIMEOUT), "-o", shlex.join(options),
                ],
                timeout=_START_TIMEOUT + 15,
                environment=self.installation.environment | {"PGDATA": str(self.data)},
                log=log,
            )  # fmt: skip
        if ended.status != 0:
            raise ToolError(
                "the embedded PostgreSQL server does not start",
                detail=_last_lines(self.log.read_bytes()[begin:].decode("utf-8", "replace")),
                hint=f"The server's complete log is {self.log}.",
            )

    def _run(self, program: str, *arguments: str | Path, text: str | None = None) -> None:
        ended = self.account.run(
            [self.installation.folder / program, *arguments],
            timeout=_INITDB_TIMEOUT,
            environment=self.installation.environment,
            text=text,
        )
        if ended.status != 0:
            raise ToolError(
                f"{program} failed in {self.data.parent}",
                detail=_last_lines(ended.errors),
                hint="Is there space left, and can this account write there?",
            )

    @contextmanager
    def _password_file(self, password: str) -> Iterator[Path]:
        """A temporary file with the password that only the account can read."""
        descriptor, name = tempfile.mkstemp(prefix=PARTIAL, dir=self.data.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(password)
            self.account.take(Path(name))
            yield Path(name)
        finally:
            Path(name).unlink()


def major_of(data: Path) -> int | None:
    """The major version of the data directory; None if it does not exist."""
    try:
        return int((data / "PG_VERSION").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def find_postmaster(data: Path) -> Postmaster | None:
    """The server that runs on this data directory, if there is one.

    The pid may have been reused, so the process must be a postgres in that directory.
    """
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        process = psutil.Process(int(lines[0]))
        if _works_in(process, data):
            return Postmaster(process, Path(lines[4]) if lines[4] else None)
    except (OSError, ValueError, IndexError, psutil.Error):
        pass  # not there, being written just now, or gone
    return None


def shut_down(data: Path) -> None:
    """End the server if it runs: by a fast shutdown, then by force.

    Raises ToolError if it survives that.
    """
    for number, seconds in _ENDINGS:
        server = find_postmaster(data)
        if server is None:
            return
        with suppress(psutil.NoSuchProcess):
            server.process.send_signal(number)
        if _becomes_true(partial(_is_over, server.process), seconds):
            return
    raise ToolError("the embedded PostgreSQL server does not stop")


def clear_remains(data: Path) -> None:
    """Prepare for a new server after one that was killed.

    Its children may still work for a moment, and must be gone first. Its postmaster.pid is
    PostgreSQL's guard against two servers in one directory: it is removed only if another
    process has the number now, which PostgreSQL would take for a server.
    """
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    if not _becomes_true(lambda: not _leftovers(data), _LEFTOVERS_TIMEOUT):
        for process in _leftovers(data):
            with suppress(psutil.Error):
                process.kill()
    first_line = pid_file.read_text(encoding="utf-8").partition("\n")[0]
    if not first_line.isdigit() or psutil.pid_exists(int(first_line)):
        pid_file.unlink()


def make_socket_folder(account: Account) -> Path:
    """Create a private folder with a short name that the account can enter."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108 - mkdtemp follows
        folder = Path(tempfile.mkdtemp(prefix="backstop-", dir=parent))
        account.take(folder)
        if is_fit_for_socket(folder) and account.can_write(folder):
            return folder
        folder.rmdir()
    raise ConfigurationError(
        "there is no folder for the embedded server's socket",
        hint="Set TMPDIR to a folder with a short, plain name that everyone can enter.",
    )


def is_fit_for_socket(folder: Path) -> bool:
    """Whether libpq accepts the path of a socket in the folder."""
    length = len(os.fsencode(folder / _SOCKET))
    return length <= _LONGEST_SOCKET and _PLAIN_PATH.fullmatch(str(folder)) is not None


def remove_socket_folder(folder: Path) -> None:
    """Remove the folder, and no other files than those of a socket."""
    with suppress(OSError):
        for name in (_SOCKET, f"{_SOCKET}.lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _works_in(process: psutil.Process, data: Path) -> bool:
    return process.name().startswith("postgres") and Path(process.cwd()) == data.resolve()


def _is_over(process: psutil.Process) -> bool:
    """Whether it is gone or a zombie: in a container nobody may ever collect its status."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _leftovers(data: Path) -> list[psutil.Process]:
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # ended meanwhile, or of another user
            if _works_in(process, data):
                processes.append(process)
    return processes


def _becomes_true(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause(_TICK)
    return True


@contextmanager
def _opened_log(path: Path) -> Iterator[IO[bytes]]:
    """The log, opened to append; emptied first if it is large."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, mode=0o600), "ab") as log:
        if log.tell() > _LARGEST_LOG:
            log.truncate(0)
            log.seek(0)
        yield log


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_SHOWN_LINES:])
