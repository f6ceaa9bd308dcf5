"""Create a server for one drill, start it, and remove it completely.

All of it is in one folder, named after the drill. Its socket is in a private folder with
a short name elsewhere; that name is written into the first folder beforehand, so that
after a crash everything is found.
"""

import os
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from app.errors import ConnectError, NotPossible
from app.postgres.connection import open_session
from app.postgres.conninfo import Conninfo, undisturbed
from app.postgres.embedded.cluster import PORT, is_fit_for_socket
from app.postgres.throwaway.programs import Programs
from app.postgres.throwaway.remains import SOCKETS, remove
from app.postgres.throwaway.sandbox import Isolation, Places, Sandbox
from app.programs.background import Background, beside, run_alone

SERVER = "the server for this drill"  # its name in messages

_INITDB_TIMEOUT = 300  # seconds
_START_TIMEOUT = 120
_TICK = 0.05
_SHORT = 2.0  # seconds that a connection may take
_FAST = ((signal.SIGQUIT, 5.0),)  # immediate shutdown, which removes its shared memory
_LAST_WORDS = 1_500  # bytes of the log in an error
_NO_CHECKSUMS = 18  # from this version on, initdb enables checksums by default
_LOCKS = 64  # PostgreSQL's default

# Its data may be lost, so nothing is synced to disk.
_SETTINGS = {
    "listen_addresses": "",
    "port": PORT,
    "unix_socket_permissions": "0700",
    "cluster_name": "backstop drill",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "1d",
    "autovacuum": "off",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "256MB",
    "max_connections": "20",
    "max_prepared_transactions": "0",
    "max_parallel_maintenance_workers": "1",
    # In its folder, and removed with it: in /dev/shm it would outlive a killed server.
    "dynamic_shared_memory_type": "mmap",
    "jit": "off",
    "logging_collector": "off",
}


@dataclass(frozen=True)
class Site:
    """The programs, sandbox and folder of a server for a drill."""

    folder: Path  # new; contains everything
    programs: Programs
    sandbox: Sandbox
    hidden: tuple[Path, ...] = ()  # what it must not see
    locks: int = 0  # objects that one transaction must be able to lock
    memory: int = 0  # limit of each process's address space, in bytes; 0: none
    # Random, so that no role of a dump has the same name.
    superuser: str = field(default_factory=lambda: f"backstop_{secrets.token_hex(6)}")

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster"

    @property
    def data(self) -> Path:
        return self.cluster / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def sockets(self) -> Path:
        """The folder of the socket, read from its note."""
        return Path((self.folder / "sockets").read_text(encoding="utf-8"))

    @property
    def environment(self) -> dict[str, str]:
        icu = self.programs.folder.parent / "share" / "icu"  # part of the musl wheel
        more = {"ICU_DATA": str(icu)} if icu.is_dir() else {}
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C"} | more

    def inside(self, path: Path) -> str:
        """The path as the server sees it."""
        return str(self.sandbox.inside(path, self._places))

    def argv(self, program: str, *arguments: str) -> list[str]:
        """The command that runs one of its programs."""
        return self.sandbox.argv(self._places, self.programs.folder / program, *arguments)

    @property
    def _places(self) -> Places:
        return Places(self.cluster, self.sockets, self.programs.folder, self.hidden)


@dataclass(frozen=True)
class Throwaway:
    """A running server for one drill."""

    site: Site
    info: Conninfo  # how its superuser signs in
    process: Background

    @property
    def is_isolated(self) -> bool:
        """Whether its superuser may load a dump."""
        return self.site.sandbox.isolation is not Isolation.NONE

    @property
    def described(self) -> str:
        """A description for people."""
        version, isolation = self.site.programs.version, self.site.sandbox.isolation
        return f"PostgreSQL {version} for this drill alone, {isolation.value}"

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return " ".join(
            self.site.log.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace").split()
        )


@contextmanager
def throwaway_server(site: Site, on_tick: Callable[[], None]) -> Iterator[Throwaway]:
    """Create a server, and remove it at the end in any case.

    `on_tick` is called several times a second. Raises NotPossible if the server cannot be
    created or does not start, and whatever `on_tick` raises.
    """
    password = secrets.token_urlsafe(24)
    try:
        with _refusing():
            _make_folders(site)
            _initialise(site, password, on_tick)
        with site.log.open("ab") as log, _started(site, log) as process:
            server = Throwaway(site, _conninfo(site, password), process)
            _wait_until_ready(server, on_tick)
            yield server
    finally:
        remove(site.folder)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotPossible(
            "could not create a server for the drill",
            detail=f"{error}.",
            hint="Check that the disk of the instance folder has room and that it is writable.",
        ) from error


def _make_folders(site: Site) -> None:
    """The folders of the cluster and of its socket, each for the account alone."""
    site.folder.parent.mkdir(parents=True, exist_ok=True)
    needs_passage = site.sandbox.isolation is not Isolation.BUBBLEWRAP and os.geteuid() == 0
    site.folder.mkdir()
    site.folder.chmod(0o711 if needs_passage else 0o700)
    parents = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108 - the name is random
    sockets = [parent / f"{SOCKETS}{secrets.token_hex(6)}" for parent in parents]
    short = next(filter(is_fit_for_socket, sockets), sockets[-1])
    (site.folder / "sockets").write_text(str(short), encoding="utf-8")
    account = site.sandbox.account
    for folder in (site.cluster, short):
        folder.mkdir(mode=0o700)
        account.take(folder)
    passwd = f"backstop:x:{account.uid}:{account.gid}::/:/bin/sh\n"
    _write(site, site.cluster / "passwd", passwd)


def _write(site: Site, path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")
    path.chmod(0o600)
    site.sandbox.account.take(path)


def _initialise(site: Site, password: str, on_tick: Callable[[], None]) -> None:
    password_file = site.cluster / "password"
    _write(site, password_file, password)
    argv = site.argv(
        "initdb", "-D", site.inside(site.data), "-E", "UTF8", "--no-locale", "--no-sync",
        "-U", site.superuser, "-A", "scram-sha-256", f"--pwfile={site.inside(password_file)}",
        *(["--no-data-checksums"] if site.programs.version.major >= _NO_CHECKSUMS else []),
    )  # fmt: skip
    try:
        status, text = run_alone(
            argv, environment=site.environment, timeout=_INITDB_TIMEOUT, on_tick=on_tick
        )
    except TimeoutError:
        status, text = 1, f"initdb took longer than {_INITDB_TIMEOUT} s"
    if status != 0:
        raise NotPossible(
            "could not create a server for the drill", detail=" ".join(text[-_LAST_WORDS:].split())
        )
    password_file.unlink()


def _started(site: Site, log: BinaryIO) -> AbstractContextManager[Background]:
    chosen = _SETTINGS | {
        "unix_socket_directories": site.inside(site.sockets),
        "max_locks_per_transaction": str(_LOCKS + site.locks // int(_SETTINGS["max_connections"])),
    }
    words = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
    argv = site.argv("postgres", "-D", site.inside(site.data), *words)
    politely = () if site.sandbox.isolation is Isolation.BUBBLEWRAP else _FAST
    return beside(
        argv, environment=site.environment, log=log, memory=site.memory, politely=politely
    )


def _wait_until_ready(server: Throwaway, on_tick: Callable[[], None]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    info = server.info
    while server.process.status is None and time.monotonic() < deadline:
        on_tick()
        with (
            suppress(ConnectError),
            open_session(info, application_name="backstop look", patience=_SHORT),
        ):
            return
        time.sleep(_TICK)
    raise NotPossible(
        "the server for the drill does not start",
        detail=server.last_words,
        hint="Check that this machine has enough memory and shared memory.",
    )


def _conninfo(site: Site, password: str) -> Conninfo:
    where = {"host": str(site.sockets), "port": PORT, "user": site.superuser, "dbname": "postgres"}
    # Even if the database sets a role for its sessions, ours keep their own.
    info = Conninfo(where | {"options": "-c role=none"}, password, server=SERVER)
    return undisturbed(info, site.programs.version.major)
