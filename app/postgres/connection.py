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
from app.postgres.hints import HINTS, REFUSALS
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
        """Send a statement, to be answered within so many seconds; `poll` tells when it is.

        Raises as `poll`.
        """
        self._cursor = self._connection.cursor()
        self._give_patience(patience)
        try:
            self._cursor.execute(sql, values or None)
        except UnicodeEncodeError as error:
            raise psycopg2.DataError("a name does not fit the encoding of the server") from error

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
    for pattern, hint in HINTS:
        if re.search(pattern, text):
            return hint
    return ""


def is_refusal(text: str) -> bool:
    """Whether an error with this text says that password, certificate or role are not taken."""
    return re.search(REFUSALS, text) is not None
