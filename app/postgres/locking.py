"""Lock a database against other dumps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2

from app.errors import ConfigurationError, Conflict, ConnectError, DumpError
from app.pausing import pause
from app.postgres.connection import (
    OWN_PATH,
    OnWait,
    Rows,
    Session,
    error_text,
    hint_for,
    open_session,
    server_error,
)
from app.postgres.conninfo import Conninfo
from app.postgres.poolers import is_pooled
from app.postgres.tools import Version

#: "Backstop" in ASCII: the advisory lock that all panels and hosts agree on.
LOCK = 0x4261636B73746F70

_CHECK_EVERY = 2.0  # seconds between two checks of the connection that holds the lock
LET_GO = "ROLLBACK TO SAVEPOINT {0}; RELEASE SAVEPOINT {0}"  # of every lock since
_LOCK_PATIENCE = 2.0  # seconds; the session of a killed run ends a moment later

# Between two statements a READ COMMITTED transaction has no snapshot: vacuum goes on.
_BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {OWN_PATH}"

# Timeouts of the role would end the transaction during a long dump. With the keepalives
# the server notices a panel whose machine has lost power; otherwise the lock would be
# held for the kernel's two hours. As in pg_dump, a table that has become a view is not
# read (CVE-2024-7348). Settings that this server does not know are left out.
OWN_SETTINGS = """
    SELECT set_config(name, value, true) FROM (VALUES
        ('statement_timeout', '0'), ('lock_timeout', '0'), ('transaction_timeout', '0'),
        ('idle_in_transaction_session_timeout', '0'),
        ('row_security', 'off'), ('constraint_exclusion', 'off'),
        ('quote_all_identifiers', 'off'),
        ('restrict_nonsystem_relation_kind', 'view, foreign-table'),
        ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'),
        ('tcp_keepalives_count', '3')
    ) own (name, value) WHERE current_setting(name, true) IS NOT NULL
"""

# Whoever holds the lock may end the sessions of dead runs: one that waits for a table
# outlives its client. The age spares a run that is about to be refused.
_LEFTOVERS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name LIKE 'backstop backup\\_%'
      AND application_name <> current_setting('application_name')
      AND backend_start < now() - interval '1 minute'
      AND usename = current_user AND datname = current_database()
"""

_LOST = "the connection that holds the lock was lost"

# pg_locks shows a 64-bit key as two halves.
_HOLDER = """
    SELECT a.pid, a.usename, a.application_name
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
      AND (l.classid::bigint << 32 | l.objid::bigint) = %s
"""


class Pulse:
    """Asks a session for a sign of life every few seconds, without waiting for the answer."""

    def __init__(self, session: Session, patience: float) -> None:
        self._session, self._patience = session, patience
        self._felt = time.monotonic()
        self._is_asked = False

    def feel(self, *, now: bool) -> None:
        """Look for the last answer, and ask again when it is time; with `now`, wait for it.

        Raises psycopg2.Error where the session is lost.
        """
        if self._is_asked and now:
            self.settle()
        elif self._is_asked and self._session.poll() is not None:
            self._is_asked, self._felt = False, time.monotonic()
        if now or (not self._is_asked and time.monotonic() > self._felt + _CHECK_EVERY):
            self._session.begin("SELECT 1", patience=self._patience)
            self._is_asked = True
            if now:
                self.settle()

    def settle(self) -> None:
        """Wait until the session is free for another statement."""
        if self._is_asked:
            self._session.wait()
            self._is_asked, self._felt = False, time.monotonic()


class Lock:
    """The lock of a database against other dumps, held while its transaction is open.

    Its session also serves for queries, and holds nothing else.
    """

    def __init__(self, session: Session, info: Conninfo, database: str, patience: float) -> None:
        self._session = session
        self._pulse = Pulse(session, patience)
        self.info = info
        self.patience = patience  # seconds
        self.database = database  # as the server calls it

    @property
    def server_version(self) -> Version:
        return self._session.server_version

    @property
    def is_pooled(self) -> bool:
        """Whether there is a pooler in between. Raises DumpError if the lock is lost."""
        with watched(_LOST, self.info):
            return is_pooled(self._session)

    def rows(self, sql: str, *values: Any) -> Rows:
        """Run a query, and release its locks. Raises psycopg2.Error."""
        self._pulse.settle()
        self._session.rows("SAVEPOINT asking", patience=self.patience)
        rows = self._session.rows(sql, *values, patience=self.patience)
        self._session.rows(LET_GO.format("asking"), patience=self.patience)
        return rows

    def database_size(self) -> int:
        """How large the database is on the server, in bytes."""
        with watched("the size of the database cannot be read", self.info):
            return int(self.rows("SELECT pg_database_size(current_database())")[0][0])

    def check(self, *, now: bool = False) -> None:
        """Make sure that the lock is still held; the server is asked every few seconds.

        Waits for the answer only if it must be known `now`; otherwise the next calls look
        for it. Raises DumpError if the lock is lost: another dump may run by now.
        """
        with watched(_LOST, self.info):
            self._pulse.feel(now=now)


@contextmanager
def watched(message: str, info: Conninfo) -> Iterator[None]:
    """Turn errors of the server into a DumpError with this message."""
    try:
        yield
    except psycopg2.Error as error:
        text = error_text(error, info)
        hint = hint_for(text) or "The server's log says why it ended the session."
        raise DumpError(message, detail=text, hint=hint) from None


@contextmanager
def hold_lock(
    info: Conninfo, *, application_name: str, patience: float = 60, on_wait: OnWait = None
) -> Iterator[Lock]:
    """Lock the database against other dumps, without a snapshot.

    The lock belongs to a transaction, because a session's lock would outlive its client
    behind a pooler. Later answers of the server may take `patience` seconds. `on_wait` as
    in `open_session`. Raises Conflict if a dump of this database runs anywhere,
    ConfigurationError where the server opens another database, ConnectError, DumpError.
    """
    with open_session(info, application_name=application_name, on_wait=on_wait) as session:
        try:
            session.rows(_BEGIN)
            session.rows(OWN_SETTINGS)
            database = str(session.ask("SELECT current_database()"))
            refuse_another_name(info, database)
            _lock(session, info)
            lock = Lock(session, info, database, patience)
            lock.rows(_LEFTOVERS)
        except psycopg2.Error as error:
            message = "the server did not grant the lock"
            raise server_error(ConnectError, message, error, info) from None
        yield lock


def refuse_another_name(info: Conninfo, name: str) -> None:
    """Raise ConfigurationError where the server opens another database than the URL names."""
    if name != info.database:
        raise ConfigurationError(
            f'the server opens database "{name}" instead of "{info.database}"',
            detail="A pooler or a setting of libpq leads to another database.",
            hint="Write the name of the database into the URL as the server knows it.",
        )


def _lock(session: Session, info: Conninfo) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE
    while not session.ask("SELECT pg_try_advisory_xact_lock(%s)", LOCK):
        if time.monotonic() > deadline:
            holder = session.rows(_HOLDER, LOCK)
            raise Conflict(
                f'database "{info.database}" is being backed up by another panel',
                detail=_holder(*holder[0]) if holder else "",
                hint="Wait until it has ended. If the process in pg_locks is not a backup, end it"
                " with pg_terminate_backend.",
            )
        pause(0.1)


def _holder(pid: int, role: str, name: str) -> str:
    return f'Process {pid} of role "{role}" with application name "{name}" holds its lock.'
