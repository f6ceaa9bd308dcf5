"""Sessions with a server, and its errors in our words."""

import re
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, encrypt_password
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from app.errors import AppError, ConnectError, PostgresError
from app.postgres.conninfo import Conninfo
from app.postgres.encodings import allow_any_bytes
from app.postgres.hints import HINTS, REFUSALS
from app.postgres.tools import Version
from app.programs.masking import masked

allow_any_bytes()

CONNECT_TIMEOUT = 10  # seconds
_ANSWER_TIMEOUT = 20  # seconds; a live server answers our questions at once
_SHORT = 2.0  # seconds, where somebody waits for us and it can be done later
_WAIT_TICK = 0.25  # seconds

#: Comes before our queries: the owner of a database chooses its search path, and could
#: put operators and functions there that would run with our rights. It holds for one
#: transaction, because a pooler shares the session with others.
OWN_PATH = "SET LOCAL search_path = pg_catalog, pg_temp;"

_END_SESSIONS = f"""
    {OWN_PATH}
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = %s AND usename = current_user AND datname = current_database()
"""  # noqa: S608 - our own text

# Nothing of a database may act on our session: not its functions and operators (so the
# path is set first, by a statement that calls none), its event triggers (from 17 on), or
# the settings of the database and of our role.
_GUARDED = """
    SET search_path = pg_catalog, pg_temp;
    SELECT set_config(name, CASE WHEN name LIKE '%timeout' THEN '0' ELSE 'off' END, false)
    FROM pg_catalog.pg_settings
    WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                   'idle_in_transaction_session_timeout', 'idle_session_timeout',
                   'default_transaction_read_only', 'quote_all_identifiers')
       OR (name = 'event_triggers' AND (SELECT rolsuper FROM pg_catalog.pg_roles
                                        WHERE rolname = current_user))
"""

E = TypeVar("E", bound=AppError)
Rows = list[tuple[Any, ...]]
OnWait = Callable[[], None] | None

# A dead peer is noticed after one minute instead of the kernel's two hours.
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class Session:
    """A connection on which nothing waits for ever.

    It is asynchronous underneath: a silent peer could otherwise hold us inside libpq,
    deaf to signals. A caller with other work begins a statement and polls for its rows.
    """

    def __init__(
        self, connection: Connection, on_wait: OnWait = None, patience: float | None = None
    ) -> None:
        self._connection = connection
        self._on_wait = on_wait
        self._cursor: Cursor | None = None
        self._polled = POLL_OK
        self._give_patience(CONNECT_TIMEOUT if patience is None else patience)

    @property
    def server_version(self) -> Version:
        return Version.of_number(self._connection.server_version)

    @property
    def connection(self) -> Connection:
        """The connection, to be used by others while no statement runs."""
        return self._connection

    def encrypted(self, password: str, role: str) -> str:
        """The hash of a password as the server keeps it, so that no password is sent or logged."""
        return str(encrypt_password(password, role, self._connection, "scram-sha-256"))

    def begin(self, sql: str, *values: Any, patience: float = _ANSWER_TIMEOUT) -> None:
        """Send a statement that must be answered within `patience` seconds; then `poll`.

        Raises as `poll`.
        """
        self._cursor = self._connection.cursor()
        self._give_patience(patience)
        try:
            self._cursor.execute(sql, values or None)
        except UnicodeEncodeError as error:
            raise psycopg2.DataError("a name does not fit the encoding of the server") from error

    def poll(self) -> Rows | None:
        """The rows of the statement that was begun, or None while there is no answer.

        Before the first statement it waits for the connection, which has no rows. Raises
        psycopg2.Error, also where no answer comes in time.
        """
        return self._rows() if self._state() == POLL_OK else None

    def rows(self, sql: str, *values: Any, patience: float = _ANSWER_TIMEOUT) -> Rows:
        """Run one statement and return its rows. Raises as `poll`."""
        self.begin(sql, *values, patience=patience)
        return self.wait()

    def ask(self, sql: str, *values: Any, patience: float = _ANSWER_TIMEOUT) -> Any:
        """Run one statement and return the first value of its first row, or None."""
        rows = self.rows(sql, *values, patience=patience)
        return rows[0][0] if rows else None

    def wait(self) -> Rows:
        """Wait for the rows of the statement. Raises as `poll`, and what `on_wait` raises."""
        while self._state() != POLL_OK:
            self._is_ready(_WAIT_TICK)
            if self._on_wait is not None:
                self._on_wait()
        return self._rows()

    def _state(self) -> int:
        # While it connects, libpq takes a call for the news that its socket is ready.
        if self._cursor is not None or self._is_ready(0):
            with _in_one_encoding():
                self._polled = int(self._connection.poll())
        if self._polled != POLL_OK and time.monotonic() > self._due:
            raise psycopg2.OperationalError(
                f"no answer within {self._patience:g} s: timeout expired"
            )
        return self._polled

    def _is_ready(self, seconds: float) -> bool:
        """Whether the socket becomes ready for what libpq waits for."""
        read = [self._connection] if self._polled == POLL_READ else []
        write = [self._connection] if self._polled == POLL_WRITE else []
        return self._polled == POLL_OK or any(select.select(read, write, [], seconds))

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
    """Turn an error of decoding into one of the server."""
    try:
        yield
    except UnicodeError as error:
        raise psycopg2.DataError("the server answers in another encoding than it says") from error


@contextmanager
def connect(info: Conninfo, *, application_name: str) -> Iterator[Connection]:
    """A connection that is closed at the end without a commit.

    Raises ConnectError, without secrets and with a hint.
    """
    with _connect_errors(info):
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
    """A session on which nothing waits for ever; raises as `connect`.

    `on_wait` is called several times a second while we wait for the server; what it raises
    ends the wait. Connecting may take `patience` seconds.
    """
    with starting_session(
        info, application_name=application_name, on_wait=on_wait, patience=patience
    ) as session:
        with _connect_errors(info):
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
    """A session that is still connecting; poll it as after `begin`."""
    with _connect_errors(info):
        connection = psycopg2.connect(
            _dsn(info, application_name), password=info.password or None, async_=True
        )
    with closing(connection):
        yield Session(connection, on_wait, patience)


@contextmanager
def guarded_session(
    info: Conninfo, *, application_name: str, on_wait: OnWait = None
) -> Iterator[Session]:
    """A session on which nothing of the database acts. Raises ConnectError, PostgresError."""
    with open_session(info, application_name=application_name, on_wait=on_wait) as session:
        try:
            session.rows(_GUARDED)
        except psycopg2.Error as error:
            message = "the server refused the settings of a session"
            raise server_error(PostgresError, message, error, info) from None
        yield session


def end_sessions(info: Conninfo, application_name: str) -> int:
    """End our role's sessions of this name on the server; return how many there were.

    A session that waits for a lock outlives its client. Raises ConnectError,
    psycopg2.Error.
    """
    with open_session(info, application_name="backstop", patience=_SHORT) as session:
        return int(session.ask(_END_SESSIONS, application_name, patience=_SHORT))


def _dsn(info: Conninfo, application_name: str) -> str:
    chosen = {"connect_timeout": CONNECT_TIMEOUT} | _KEEPALIVES
    own = {name: value for name, value in chosen.items() if name not in info.parameters}
    return info.dsn(application_name=application_name, **own)


@contextmanager
def _connect_errors(info: Conninfo) -> Iterator[None]:
    try:
        with _in_one_encoding():
            yield
    except psycopg2.Error as error:
        message = f'no connection to database "{info.database}" on {info.server}'
        # libpq's own error could carry the connection string.
        raise server_error(ConnectError, message, error, info) from None


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def unquoted(name: str) -> str:
    """The name itself, written in SQL's double quotes or without."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def server_error(kind: type[E], message: str, error: psycopg2.Error, info: Conninfo) -> E:
    """An error of this kind, with the server's own text as its detail, and a hint."""
    text = error_text(error, info)
    return kind(message, detail=text, hint=hint_for(text))


def error_text(error: psycopg2.Error, info: Conninfo) -> str:
    """The text of the error in one line, without secrets."""
    text = " ".join(str(error).split()) or type(error).__name__
    return masked(text, info.secrets)


def hint_for(text: str) -> str:
    """What helps against an error with this text; empty where we do not know."""
    for pattern, hint in HINTS:
        if re.search(pattern, text):
            return hint
    return ""


def is_refusal(text: str) -> bool:
    """Whether an error with this text rejects the password, certificate or role."""
    return re.search(REFUSALS, text) is not None
