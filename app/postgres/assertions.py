"""Ask a database for what must be true in it, without changing anything."""

import time
from dataclasses import dataclass, replace
from typing import Any

import psycopg2

from app.errors import PostgresError
from app.postgres.blame import GAVE_WAY
from app.postgres.connection import OnWait, Session, error_text, open_session, server_error
from app.postgres.conninfo import Conninfo

_USUAL_PATH = '"$user", public'
_GRACE = 2.0  # seconds that the server has to end a statement by itself
_WORDS = 500  # characters of what went wrong that are kept

_CANCELLED = "57014"
_NOT_ONE_QUERY = "42P11"

_PREPARE = """
    SELECT pg_catalog.set_config('search_path', %s, true),
           pg_catalog.set_config('statement_timeout', %s, true),
           pg_catalog.set_config('lock_timeout', '0', true),
           pg_catalog.set_config('backstop.assertion', %s, true)
"""

# A cursor takes one query and nothing else: not two statements, nor a COMMIT that would
# end the transaction which may only read.
_OPEN = """
    DO $$
    DECLARE assertion pg_catalog.refcursor := 'assertion';
    BEGIN
        OPEN assertion FOR EXECUTE pg_catalog.current_setting('backstop.assertion');
    END $$
"""


@dataclass(frozen=True)
class Doubt:
    """Why a statement is not known to be true, in words; empty where it is."""

    told: str
    is_unanswered: bool = False  # for want of time or memory: it may be true


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

    It runs in a transaction that may only read, for `timeout` seconds, and
    finds names by `search_path` (None: as PostgreSQL does). `info` must be of
    a role without rights: user code may run. Raises ConnectError, PostgresError
    where the server ended the session, and what `on_wait` raises.
    """
    utf8 = replace(info, parameters={**info.parameters, "client_encoding": "UTF8"})
    began = time.monotonic()
    with open_session(utf8, application_name=application_name, on_wait=on_wait) as session:
        backend = session.ask("SELECT pg_catalog.pg_backend_pid()")
        try:
            return Doubt(_judged(_asked(session, statement, search_path or _USUAL_PATH, timeout)))
        except (ValueError, OverflowError) as error:  # Python has no such text, or date
            return Doubt(_printable(f"it returned what cannot be read: {error}"))
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
    return "it returned something else than true or false"


def _end(info: Conninfo, backend: int, application_name: str) -> None:
    """End a session of ours that went on: its code may have undone the timeout."""
    with open_session(info, application_name=application_name) as session:
        try:
            session.rows("SELECT pg_catalog.pg_terminate_backend(%s, 5000)", backend)
        except psycopg2.Error as error:
            raise PostgresError(
                "the session of an assertion does not end", detail=error_text(error, info)
            ) from None


def _printable(text: str) -> str:
    """A server's words in one line; they can quote anything that a table holds."""
    line = " ".join(text.split())[:_WORDS]
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
