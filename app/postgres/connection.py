"""Talk to a server ourselves: connect, ask what it is, tell errors in our words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from app.errors import ConnectError, PostgresError
from app.postgres.conninfo import Conninfo
from app.postgres.tools import Version

CONNECT_TIMEOUT = 10  # seconds, for each address of the host

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


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of itself and of the database we are connected to."""

    version: Version
    database_size: int  # bytes
    encoding: str


@contextmanager
def connect(info: Conninfo, *, application_name: str) -> Iterator[Connection]:
    """A connection that is closed at the end; nothing is committed by itself.

    Raises ConnectError, in words without secrets and with a hint.
    """
    dsn = info.dsn(
        application_name=application_name,
        **{
            name: value
            for name, value in ({"connect_timeout": CONNECT_TIMEOUT} | _KEEPALIVES).items()
            if name not in info.parameters
        },
    )
    try:
        connection = psycopg2.connect(dsn, password=info.password or None)
    except psycopg2.Error as error:
        text = told(error, info)
        raise ConnectError(
            f'no connection to database "{info.database}" on {info.server}',
            detail=text,
            hint=hint_for(text),
        ) from None  # libpq's own error could carry the connection string
    try:
        yield connection
    finally:
        connection.close()


def server_facts(connection: Connection) -> ServerFacts:
    """Ask the server for its version, and for the database's size and encoding."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_database_size(current_database()),"
            " pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
        )
        row = cursor.fetchone()
    if row is None:
        raise PostgresError("the server does not list the database we are connected to")
    return ServerFacts(Version.of_number(connection.server_version), row[0], row[1])


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
