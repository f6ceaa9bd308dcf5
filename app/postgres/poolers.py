"""See whether a pooler stands between us and the server, and what it shares out."""

import psycopg2

from app.errors import ConfigurationError
from app.postgres.connection import Session, open_session
from app.postgres.conninfo import Conninfo

_PID = "SELECT pg_catalog.pg_backend_pid()"
_PATIENCE = 5.0  # seconds
_NAME = "backstop pooler"


def is_pooled(session: Session) -> bool:
    """Whether who let us in is not the server process that answers."""
    return bool(session.ask(_PID) != session.connection.info.backend_pid)


def refuse_shared_sessions(info: Conninfo) -> None:
    """Raise ConfigurationError where a pooler gives our session to others between transactions.

    What pg_dump sets would then hold for them: the application finds no table any more.
    Raises ConnectError too.
    """
    with (
        open_session(info, application_name=_NAME) as one,
        open_session(info, application_name=_NAME) as other,
    ):
        try:
            before = one.ask(_PID, patience=_PATIENCE)
            other.rows("BEGIN", patience=_PATIENCE)
            theirs = other.ask(_PID, patience=_PATIENCE)
            is_shared = theirs == before or one.ask(_PID, patience=_PATIENCE) != before
        except psycopg2.Error:
            return  # it has no session to spare: nothing is known
    if is_shared:
        raise ConfigurationError(
            "the URL leads to a pooler in transaction mode",
            detail="It shares sessions out between transactions; what a backup sets in one"
            " would hold for the application.",
            hint="Name the server itself, or a database of the pooler in session mode.",
        )
