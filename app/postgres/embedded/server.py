"""The embedded PostgreSQL server with the sample shop, for demonstration and tests.

Each user holds `used()`: the first one starts the server, the last one stops it, unless a
person has started it to stay, or stopped it. Users are counted by shared locks on a file,
which the kernel releases for killed processes. All changes happen under one exclusive lock.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app import host
from app.errors import ConfigurationError, ConnectError
from app.postgres.conninfo import Conninfo
from app.postgres.embedded import cluster, sample
from app.postgres.embedded.accounts import Account, account_for, make_passable
from app.postgres.embedded.cluster import Cluster, find_postmaster
from app.postgres.embedded.files import EmbeddedFiles, file_errors, try_to_lock
from app.postgres.embedded.installations import find_installation

SERVER = "embedded"  # its name for people
DATABASE = sample.DATABASE

_STATEMENT_TIMEOUT = "180s"  # for each statement of the sample


@dataclass(frozen=True)
class ServerStatus:
    """The state of the embedded server."""

    running: bool
    pid: int | None
    version: str | None  # of the programs that ran it last
    programs: Path | None  # their folder
    data: Path
    socket: Path | None  # the folder of the socket
    stopped_on_purpose: bool


class EmbeddedServer:
    """The server of one instance folder. Creating this object touches nothing."""

    def __init__(self, instance_dir: Path) -> None:
        self._files = EmbeddedFiles(instance_dir)

    def conninfo(self) -> Conninfo:
        """How to sign in to the sample database. Raises ConnectError if the server is down."""
        with file_errors():
            return self._conninfo(DATABASE)

    def status(self) -> ServerStatus:
        """The state, without starting anything."""
        with file_errors():
            state, data = self._files.state, self._data
            server = find_postmaster(data)
        return ServerStatus(
            running=server is not None,
            pid=server.process.pid if server else None,
            version=state.version or None,
            programs=Path(state.programs) if state.programs else None,
            data=data,
            socket=server.socket_folder if server else None,
            stopped_on_purpose=state.stopped_on_purpose,
        )

    def alive(self) -> bool:
        """Whether the server runs; cheap enough to call every second."""
        with file_errors():
            return find_postmaster(self._data) is not None

    def start(self) -> None:
        """Start the server until stop() is called; create whatever is missing.

        Raises ConfigurationError without programs or an account for them, ToolError if a
        program fails.
        """
        with self._files.changing():
            self._files.note(stopped_on_purpose=False)
            self._bring_up()
            self._files.note(stays=True)

    def stop(self) -> None:
        """Stop the server even if it is used, and remember that this was intended."""
        with self._files.changing():
            self._files.note(stopped_on_purpose=True)
            self._bring_down()

    @contextmanager
    def used(self, *, insist: bool = False) -> Iterator[None]:
        """Hold this while working with the server, which is started if necessary.

        A server that was stopped on purpose stays down, unless the caller insists. The
        last user to leave stops the server. Raises as start().
        """
        with self._files.opened("users") as users:
            self._enter(users, insist=insist)
            try:
                yield
            finally:
                self._leave(users)

    def _enter(self, users: IO[bytes], *, insist: bool) -> None:
        with self._files.changing():
            host.lock_shared(users.fileno(), waits=True)
            if insist:
                self._files.note(stopped_on_purpose=False)
            if not self._files.state.stopped_on_purpose:
                self._bring_up()

    def _leave(self, users: IO[bytes]) -> None:
        with self._files.changing():
            is_last = try_to_lock(users)
            if is_last and not self._files.state.stays:
                self._bring_down()
            host.unlock(users.fileno())  # before the next one may enter

    def _bring_up(self) -> None:
        """Start the server and load the sample, as far as that is necessary."""
        try:
            if find_postmaster(self._data) is None:
                self._launch()
            if not self._files.state.has_sample:
                options = f"-c statement_timeout={_STATEMENT_TIMEOUT}"
                sample.load(
                    self._conninfo("postgres", options=options),
                    self._conninfo(DATABASE, options=options),
                )
                self._files.note(has_sample=True)
        except BaseException:  # also an interrupt: half a start is worse than none
            self._bring_down()
            raise

    def _bring_down(self) -> None:
        cluster.shut_down(self._data)
        self._forget_socket()
        self._files.note(stays=False)

    def _forget_socket(self) -> None:
        if self._files.state.socket:
            cluster.remove_socket_folder(Path(self._files.state.socket))
            self._files.note(socket="")

    def _launch(self) -> None:
        account = account_for(self._data)
        self._files.sweep()
        self._settle(account)
        cluster.shut_down(self._data)  # it runs only if the state was lost
        server = self._prepared(account)
        self._forget_socket()  # of a server that was killed
        socket = cluster.make_socket_folder(account)
        self._files.note(
            socket=str(socket),
            version=str(server.installation.version),
            programs=str(server.installation.folder),
            stays=False,
        )
        server.start(socket)

    def _settle(self, account: Account) -> None:
        """Choose the folder of the data: here, or where the account can write."""
        if cluster.major_of(self._data) is not None:
            return
        for home in (self._files.folder, self._files.elsewhere):
            make_passable(home)
            if account.can_write_below(home):
                self._files.note(home=str(home))
                return
        raise ConfigurationError(
            f"{account.name} cannot write the data of the embedded server",
            detail=f"Tried: {self._files.folder} and {self._files.elsewhere}.",
            hint="Set another BACKSTOP_INSTANCE_DIR, or set DATABASE_URL.",
        )

    def _prepared(self, account: Account) -> Cluster:
        """The data directory, created or cleared of a killed server, and its programs."""
        data, major, known = self._data, cluster.major_of(self._data), self._files.password()
        installation = find_installation(account, major=major, copies=self._files.elsewhere)
        server = Cluster(data, self._files.log, installation, account)
        password = known or secrets.token_urlsafe(32)
        if major is None:
            self._files.note(has_sample=False)
            server.initialise(password)
        else:
            cluster.clear_remains(data)
            if known is None:  # the instance folder was emptied, the data lay elsewhere
                server.change_password(password)
        self._files.keep_password(password)
        return server

    def _conninfo(self, database: str, **parameters: str) -> Conninfo:
        server, password = find_postmaster(self._data), self._files.password()
        if server is None or server.socket_folder is None or password is None:
            on_purpose = self._files.state.stopped_on_purpose
            raise ConnectError(
                "the embedded PostgreSQL server is not running",
                detail="It was stopped on purpose." if on_purpose else "",
                hint="Start it with: flask server start",
            )
        return Conninfo(
            {
                "host": str(server.socket_folder),
                "port": cluster.PORT,
                "user": cluster.SUPERUSER,
                "dbname": database,
                **parameters,
            },
            password,
            server=SERVER,
            passfile=self._files.passfile,
        )

    @property
    def _data(self) -> Path:
        return Path(self._files.state.home or self._files.folder) / "data"
