"""Detect a pooler between us and the server, and its mode."""

import psycopg2

from app.errors import ConfigurationError
from app.postgres.connection import Session, open_session
from app.postgres.conninfo import Conninfo

_PID = "SELECT pg_catalog.pg_backend_pid()"
_PATIENCE = 5.0  # seconds
_NAME = "backstop pooler"


def is_pooled(session: Session) -> bool:
    """Whether a process other than the one we signed in to answers."""
    return bool(session.ask(_PID, patience=_PATIENCE) != session.connection.info.backend_pid)


def refuse_shared_sessions(info: Conninfo) -> None:
    """Raise ConfigurationError where a pooler gives our session to others between transactions.

    The settings of pg_dump would then act on the application, which would no longer find
    its tables. Raises ConnectError too.
    """
    with (
        open_session(info, application_name=_NAME) as one,
        open_session(info, application_name=_NAME) as other,
    ):
        try:
            ours = one.ask(_PID, patience=_PATIENCE)
            other.rows("BEGIN", patience=_PATIENCE)
            theirs = other.ask(_PID, patience=_PATIENCE)
            is_shared = theirs == ours or one.ask(_PID, patience=_PATIENCE) != ours
        except psycopg2.Error:
            return  # the pooler has no second session, so we cannot know
    if is_shared:
        raise ConfigurationError(
            "the URL leads to a pooler in transaction mode",
            detail="Between transactions it gives a session to others, so the settings of a backup"
            " would act on the application.",
            hint="Name the server itself, or a database of the pooler in session mode.",
        )
