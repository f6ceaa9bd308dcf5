"""Talk to a server ourselves: connect, ask what it is, tell errors in our words."""

import re
import select
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from app.errors import ConnectError
from app.postgres.conninfo import Conninfo
from app.postgres.tools import Version

CONNECT_TIMEOUT = 10  # seconds
_ANSWER_TIMEOUT = 20  # seconds; what we ask is answered at once by any server that lives

# A dead peer is noticed after a minute, not after the kernel's two hours.
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

# What libpq and the server say, and what helps. The first that fits counts.
_HINTS = (
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
        "Grant the role what it lacks; pg_read_all_data is meant for backups.",
    ),
)


class Session:
    """A connection on which nothing waits for ever.

    It is asynchronous underneath: a peer that has gone silent could otherwise
    hold us inside libpq, deaf to signals, for as long as it likes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wait(CONNECT_TIMEOUT)

    @property
    def server_version(self) -> Version:
        return Version.of_number(self._connection.server_version)

    def ask(self, sql: str, *values: Any) -> Any:
        """Run one statement; return the first value of its first row, or None.

        Raises psycopg2.Error, also where no answer comes in time.
        """
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            self._wait(_ANSWER_TIMEOUT)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (state := self._connection.poll()) != POLL_OK:
            left = deadline - time.monotonic()
            if left <= 0:
                raise psycopg2.OperationalError(f"no answer within {seconds:g} s: timeout expired")
            read = [self._connection] if state == POLL_READ else []
            write = [self._connection] if state == POLL_WRITE else []
            select.select(read, write, [], min(left, 1.0))


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
def open_session(info: Conninfo, *, application_name: str) -> Iterator[Session]:
    """A session, on which nothing waits for ever; raises as `connect`."""
    with _telling(info):
        connection = psycopg2.connect(
            _dsn(info, application_name), password=info.password or None, async_=True
        )
    with closing(connection):
        with _telling(info):
            session = Session(connection)
        yield session


def _dsn(info: Conninfo, application_name: str) -> str:
    chosen = {"connect_timeout": CONNECT_TIMEOUT} | _KEEPALIVES
    own = {name: value for name, value in chosen.items() if name not in info.parameters}
    return info.dsn(application_name=application_name, **own)


@contextmanager
def _telling(info: Conninfo) -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        text = told(error, info)
        raise ConnectError(
            f'no connection to database "{info.database}" on {info.server}',
            detail=text,
            hint=hint_for(text),
        ) from None  # libpq's own error could carry the connection string


def told(error: psycopg2.Error, info: Conninfo) -> str:
    """The error's text in one line and without secrets."""
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in info.secrets:
        text = text.replace(secret, "*****")
    return text


def hint_for(text: str) -> str:
    """What helps against an error with this text; empty where we know nothing."""
    for pattern, hint in _HINTS:
        if re.search(pattern, text):
            return hint
    return ""
