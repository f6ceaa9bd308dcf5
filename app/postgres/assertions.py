"""Run an assertion in a database without changing anything."""

import time
from dataclasses import dataclass, replace
from typing import Any

import psycopg2

from app.errors import PostgresError
from app.postgres.blame import GAVE_WAY
from app.postgres.connection import OnWait, Session, error_text, open_session, server_error
from app.postgres.conninfo import Conninfo
from app.postgres.encodings import printable

_USUAL_PATH = '"$user", public'
_GRACE = 2.0  # seconds for the server to end a statement itself
_WORDS = 500  # characters of an error that are kept

_CANCELLED = "57014"
_NOT_ONE_QUERY = "42P11"

_PREPARE = """
    SELECT pg_catalog.set_config('search_path', %s, true),
           pg_catalog.set_config('statement_timeout', %s, true),
           pg_catalog.set_config('lock_timeout', '0', true),
           pg_catalog.set_config('backstop.assertion', %s, true)
"""

# A cursor accepts a single query: neither two statements nor a COMMIT, which would end
# the read-only transaction.
_OPEN = """
    DO $$
    DECLARE assertion pg_catalog.refcursor := 'assertion';
    BEGIN
        OPEN assertion FOR EXECUTE pg_catalog.current_setting('backstop.assertion');
    END $$
"""


@dataclass(frozen=True)
class Doubt:
    """Why a statement is not known to be true; empty if it is true."""

    reason: str
    is_unanswered: bool = False  # time or memory ran out, so it may be true


def why_not(
    info: Conninfo,
    statement: str,
    *,
    search_path: str | None,
    timeout: float,
    application_name: str,
    on_wait: OnWait = None,
) -> Doubt:
    """Why a statement does not return true.

    It runs in a read-only transaction for at most `timeout` seconds, and resolves names by
    `search_path` (None: PostgreSQL's default). `info` must be for a role without rights,
    because user code may run. Raises ConnectError, PostgresError if the server ended the
    session, and whatever `on_wait` raises.
    """
    utf8 = replace(info, parameters={**info.parameters, "client_encoding": "UTF8"})
    began = time.monotonic()
    with open_session(utf8, application_name=application_name, on_wait=on_wait) as session:
        backend = session.ask("SELECT pg_catalog.pg_backend_pid()")
        try:
            return Doubt(_judged(_asked(session, statement, search_path or _USUAL_PATH, timeout)))
        except (ValueError, OverflowError) as error:  # Python cannot hold such a text or date
            return Doubt(_printable(f"it returned a value that cannot be read: {error}"))
        except psycopg2.Error as error:
            if error.pgcode in (None, _CANCELLED) and time.monotonic() - began >= timeout:
                _end(info, backend, application_name)
                return Doubt(f"it took longer than {timeout:g} s", is_unanswered=True)
            if error.pgcode is None:
                message = "the server ended the session of an assertion"
                raise server_error(PostgresError, message, error, info) from None
            text = _printable(error.diag.message_primary or str(error))
            if error.pgcode == _NOT_ONE_QUERY:
                text = f"it is not one query: {text}"
            return Doubt(text, is_unanswered=error.pgcode[:2] in GAVE_WAY)


def _asked(session: Session, statement: str, search_path: str, timeout: float) -> Any:
    milliseconds = str(round(timeout * 1000))
    session.rows("BEGIN READ ONLY")
    session.rows(_PREPARE, search_path, milliseconds, statement)
    session.rows(_OPEN, patience=timeout + _GRACE)  # planning runs code too
    return session.rows("FETCH 2 FROM assertion", patience=timeout + _GRACE)


def _judged(rows: list[tuple[Any, ...]]) -> str:
    if not rows:
        return "it returned no row"
    if len(rows) > 1:
        return "it returned more than one row"
    if len(rows[0]) != 1:
        return f"it returned {len(rows[0])} columns"
    value = rows[0][0]
    if value is True:
        return ""
    if value is None or value is False:
        return "it is null" if value is None else "it is false"
    return "it returned neither true nor false"


def _end(info: Conninfo, backend: int, application_name: str) -> None:
    """End a session of ours that is still running: its code may have undone the timeout."""
    with open_session(info, application_name=application_name) as session:
        try:
            session.rows("SELECT pg_catalog.pg_terminate_backend(%s, 5000)", backend)
        except psycopg2.Error as error:
            raise PostgresError(
                "the session of an assertion does not end", detail=error_text(error, info)
            ) from None


def _printable(text: str) -> str:
    """A message of the server in one line; it can quote anything from a table."""
    return printable(" ".join(text.split())[:_WORDS])
