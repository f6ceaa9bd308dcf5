"""Talk to a server ourselves: connect, ask what it is, tell errors in our words."""

import re
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, encrypt_password
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from app.errors import ConnectError
from app.postgres.conninfo import Conninfo, masked
from app.postgres.encodings import allow_any_bytes
from app.postgres.tools import Version

allow_any_bytes()

CONNECT_TIMEOUT = 10  # seconds
_ANSWER_TIMEOUT = 20  # seconds; what we ask is answered at once by any server that lives
_SHORT = 2.0  # seconds, where somebody waits for us and it can be done later as well
_WAIT_TICK = 0.25  # seconds

#: Before what we ask of a database: whoever owns it chooses where names are looked up,
#: and another =, or another function, would run with our rights. For one transaction
#: alone: behind a pooler the session is others' as well.
OWN_PATH = "SET LOCAL search_path = pg_catalog, pg_temp;"

_END_SESSIONS = f"""
    {OWN_PATH}
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = %s AND usename = current_user AND datname = current_database()
"""  # noqa: S608 - our own text

Rows = list[tuple[Any, ...]]
OnWait = Callable[[], None] | None

# A dead peer is noticed after a minute, not after the kernel's two hours.
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

# What libpq and the server say, and what helps. The first that fits counts.
_REFUSALS = (
    r"password authentication failed|no password supplied|authentication failed"
    r"|no pg_hba\.conf entry|role .* does not exist|is not permitted to log in"
    r"|certificate|SSL error"
)
_HINTS = (
    (
        r"conflict with recovery",
        (
            "A standby ends what holds up its recovery: raise max_standby_streaming_delay there,"
            " set hot_standby_feedback, or back up the primary."
        ),
    ),
    (
        r"too many connections for (role|database)",
        "Raise the CONNECTION LIMIT of that role or database: ALTER ROLE, ALTER DATABASE.",
    ),
    (
        r"invalid memory alloc request size",
        (
            "A row is larger than the server can send: 1 GB as text, so 512 MB of bytea. Split it,"
            " or keep it as a large object."
        ),
    ),
    (
        r"SSL SYSCALL|connection has been closed unexpectedly|terminating connection",
        "The server or the network ended the connection; the server's log may say why.",
    ),
    (
        r"password authentication failed|no password supplied|authentication failed",
        "Check the user and the password in DATABASE_URL (special characters percent-encoded).",
    ),
    (
        r"no pg_hba\.conf entry",
        "The server's pg_hba.conf does not let this user in from here, or asks for TLS.",
    ),
    (
        r"database .* does not exist",
        "Check the database's name in DATABASE_URL; psql --list shows those of the server.",
    ),
    (r"role .* does not exist", "Check the user in DATABASE_URL."),
    (
        r"could not translate host name|Name or service not known|nodename nor servname",
        "Check the host in DATABASE_URL, and that this machine can resolve it.",
    ),
    (
        (
            r"Connection refused|No such file or directory|could not connect|Connection timed out"
            r"|timeout expired|No route to host|server closed the connection|Connection reset"
        ),
        "Is the server running, and does a firewall let this machine through to its port?",
    ),
    (
        r"remaining connection slots|too many clients|too many connections",
        "The server has no connection left; raise max_connections or end idle sessions.",
    ),
    (
        r"out of shared memory",
        "A dump locks every table: raise max_locks_per_transaction on the server.",
    ),
    (r"starting up|shutting down|recovery mode", "The server is not ready yet; try again soon."),
    (r"certificate|SSL", "Check sslmode and the certificates; see docs/troubleshooting.md."),
    (
        r"permission denied for large object",
        (
            "Large objects are not covered by pg_read_all_data: GRANT SELECT ON LARGE OBJECT,"
            " or let their owner make the backup."
        ),
    ),
    (
        r"permission denied",
        "Grant the role what it lacks; to read all tables for a backup there is pg_read_all_data.",
    ),
)


class Session:
    """A connection on which nothing waits for ever.

    It is asynchronous underneath: a peer that has gone silent could otherwise
    hold us inside libpq, deaf to signals, for as long as it likes. Whoever
    has something else to do begins a statement and polls for its rows.
    """

    def __init__(
        self, connection: Connection, on_wait: OnWait = None, patience: float | None = None
    ) -> None:
        self._connection = connection
        self._on_wait = on_wait
        self._cursor: Cursor | None = None
        self._give_patience(CONNECT_TIMEOUT if patience is None else patience)

    @property
    def server_version(self) -> Version:
        return Version.of_number(self._connection.server_version)

    @property
    def connection(self) -> Connection:
        """What lies underneath, for who takes it over while nothing is being asked."""
        return self._connection

    def encrypted(self, password: str, role: str) -> str:
        """A password as the server keeps it: so it is neither sent nor logged."""
        return str(encrypt_password(password, role, self._connection, "scram-sha-256"))

    def begin(self, sql: str, *values: Any, patience: float = _ANSWER_TIMEOUT) -> None:
        """Send a statement, to be answered within so many seconds; `poll` tells when it is."""
        self._cursor = self._connection.cursor()
        self._give_patience(patience)
        self._cursor.execute(sql, values or None)

    def poll(self) -> Rows | None:
        """The rows of what was begun, or None as long as there is no answer.

        Before the first statement: no rows as soon as there is a connection.
        Raises psycopg2.Error, also where no answer comes in time.
        """
        return self._rows() if self._state() == POLL_OK else None

    def rows(self, sql: str, *values: Any, patience: float = _ANSWER_TIMEOUT) -> Rows:
        """Run one statement and return its rows. Raises as `poll`."""
        self.begin(sql, *values, patience=patience)
        return self.wait()

    def ask(self, sql: str, *values: Any, patience: float = _ANSWER_TIMEOUT) -> Any:
        """Run one statement; return the first value of its first row, or None."""
        rows = self.rows(sql, *values, patience=patience)
        return rows[0][0] if rows else None

    def wait(self) -> Rows:
        """Wait for what was begun. Raises as `poll`, and what `on_wait` raises."""
        while (state := self._state()) != POLL_OK:
            read = [self._connection] if state == POLL_READ else []
            write = [self._connection] if state == POLL_WRITE else []
            select.select(read, write, [], _WAIT_TICK)
            if self._on_wait is not None:
                self._on_wait()
        return self._rows()

    def _state(self) -> int:
        with _in_one_encoding():
            state = int(self._connection.poll())
        if state != POLL_OK and time.monotonic() > self._due:
            raise psycopg2.OperationalError(
                f"no answer within {self._patience:g} s: timeout expired"
            )
        return state

    def _give_patience(self, seconds: float) -> None:
        self._patience = seconds
        self._due = time.monotonic() + seconds

    def _rows(self) -> Rows:
        if self._cursor is None or not self._cursor.description:
            return []
        with self._cursor as cursor, _in_one_encoding():
            return cursor.fetchall()


@contextmanager
def _in_one_encoding() -> Iterator[None]:
    """What cannot be decoded is an error of the server's, not ours."""
    try:
        yield
    except UnicodeError as error:
        raise psycopg2.DataError("the server answers in another encoding than it says") from error


@contextmanager
def connect(info: Conninfo, *, application_name: str) -> Iterator[Connection]:
    """A connection that is closed at the end; nothing is committed by itself.

    Raises ConnectError, in words without secrets and with a hint.
    """
    with _telling(info):
        connection = psycopg2.connect(_dsn(info, application_name), password=info.password or None)
    with closing(connection):
        yield connection


@contextmanager
def open_session(
    info: Conninfo,
    *,
    application_name: str,
    on_wait: OnWait = None,
    patience: float | None = None,
) -> Iterator[Session]:
    """A session, on which nothing waits for ever; raises as `connect`.

    `on_wait` is called several times a second while we wait for the server;
    what it raises ends the wait. `patience` is how long a connection may take,
    in seconds.
    """
    with starting_session(
        info, application_name=application_name, on_wait=on_wait, patience=patience
    ) as session:
        with _telling(info):
            session.wait()
        yield session


@contextmanager
def starting_session(
    info: Conninfo,
    *,
    application_name: str,
    on_wait: OnWait = None,
    patience: float | None = None,
) -> Iterator[Session]:
    """A session that is still being connected: it polls as one that was asked something."""
    with _telling(info):
        connection = psycopg2.connect(
            _dsn(info, application_name), password=info.password or None, async_=True
        )
    with closing(connection):
        yield Session(connection, on_wait, patience)


def end_sessions(info: Conninfo, application_name: str) -> int:
    """End what our own role's sessions of this name still do on the server; return how many.

    A session that waits for a lock outlives its client. Raises ConnectError
    as `connect`, psycopg2.Error.
    """
    with open_session(info, application_name="backstop", patience=_SHORT) as session:
        return int(
            session.ask(
                _END_SESSIONS,
                application_name,
                patience=_SHORT,
            )
        )


def _dsn(info: Conninfo, application_name: str) -> str:
    chosen = {"connect_timeout": CONNECT_TIMEOUT} | _KEEPALIVES
    own = {name: value for name, value in chosen.items() if name not in info.parameters}
    return info.dsn(application_name=application_name, **own)


@contextmanager
def _telling(info: Conninfo) -> Iterator[None]:
    try:
        with _in_one_encoding():
            yield
    except psycopg2.Error as error:
        text = told(error, info)
        raise ConnectError(
            f'no connection to database "{info.database}" on {info.server}',
            detail=text,
            hint=hint_for(text),
        ) from None  # libpq's own error could carry the connection string


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def told(error: psycopg2.Error, info: Conninfo) -> str:
    """The error's text in one line and without secrets."""
    text = " ".join(str(error).split()) or type(error).__name__
    return masked(text, info.secrets)


def hint_for(text: str) -> str:
    """What helps against an error with this text; empty where we know nothing."""
    for pattern, hint in _HINTS:
        if re.search(pattern, text):
            return hint
    return ""


def is_refusal(text: str) -> bool:
    """Whether an error with this text says that password, certificate or role are not taken."""
    return re.search(_REFUSALS, text) is not None
