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
    hint_for,
    open_session,
    told,
)
from app.postgres.conninfo import Conninfo
from app.postgres.poolers import is_pooled
from app.postgres.tools import Version

#: "Backstop" in ASCII: the advisory lock that all panels and hosts agree on.
LOCK = 0x4261636B73746F70

_CHECK_EVERY = 2.0  # seconds between two looks at the holding connection
LET_GO = "ROLLBACK TO SAVEPOINT {0}; RELEASE SAVEPOINT {0}"  # of every lock since
_LOCK_PATIENCE = 2.0  # seconds; the session of a run that was killed ends a moment later

# Between two statements a READ COMMITTED transaction has no snapshot: vacuum goes on.
_BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {OWN_PATH}"

# A role's own timeouts would end a transaction in the middle of a long
# dump. The keepalives make the server notice a panel whose machine has lost power:
# until then it would hold the lock, for two hours as the kernel has it.
# What was a table and is a view by now is not read, as pg_dump does not
# (CVE-2024-7348). A name that this server does not know is left out.
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

# Who holds the lock may end what runs that died have left behind: a session that
# waits for a table outlives its client. A newcomer that is about to be refused
# is younger than that.
_LEFTOVERS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name LIKE 'backstop backup\\_%'
      AND application_name <> current_setting('application_name')
      AND backend_start < now() - interval '1 minute'
      AND usename = current_user AND datname = current_database()
"""

# A 64-bit key stands in pg_locks as its two halves.
_HOLDER = """
    SELECT a.pid, a.usename, a.application_name
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
      AND (l.classid::bigint << 32 | l.objid::bigint) = %s
"""


class Pulse:
    """Asks a session for a sign of life every few seconds, without waiting for it."""

    def __init__(self, session: Session, patience: float) -> None:
        self._session, self._patience = session, patience
        self._felt = time.monotonic()
        self._is_asked = False

    def feel(self, *, now: bool) -> None:
        """Look for the last answer, ask again if it is time; wait only `now`.

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
        """Wait until the session can be asked something else."""
        if self._is_asked:
            self._session.wait()
            self._is_asked, self._felt = False, time.monotonic()


class Lock:
    """One database's lock against other dumps, held for as long as its transaction is open.

    Its session asks what is to be known besides, and holds nothing else.
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
        """Whether a pooler stands in between."""
        return is_pooled(self._session)

    def rows(self, sql: str, *values: Any) -> Rows:
        """Ask something; no lock of it remains. Raises psycopg2.Error."""
        self._pulse.settle()
        self._session.rows("SAVEPOINT asking", patience=self.patience)
        found = self._session.rows(sql, *values, patience=self.patience)
        self._session.rows(LET_GO.format("asking"), patience=self.patience)
        return found

    def database_size(self) -> int:
        """How large the database is on the server, in bytes."""
        with watched("the size of the database cannot be read", self.info):
            return int(self.rows("SELECT pg_database_size(current_database())")[0][0])

    def check(self, *, now: bool = False) -> None:
        """Make sure that the lock is still held; asked every few seconds.

        Does not wait for the answer, which the next calls look for, unless it
        must be known `now`. Raises DumpError if it is lost: what is dumped may then
        stand beside another dump.
        """
        with watched("the connection that holds the lock was lost", self.info):
            self._pulse.feel(now=now)


@contextmanager
def watched(message: str, info: Conninfo) -> Iterator[None]:
    """Tell what the server says under this message, as a DumpError."""
    try:
        yield
    except psycopg2.Error as error:
        text = told(error, info)
        raise DumpError(
            message,
            detail=text,
            hint=hint_for(text) or "Look into the server's log for why it ended the session.",
        ) from None


@contextmanager
def hold_lock(
    info: Conninfo, *, application_name: str, patience: float = 60, on_wait: OnWait = None
) -> Iterator[Lock]:
    """Lock the database against other dumps; nothing else, and no snapshot.

    The lock belongs to a transaction: a session's lock would outlive its
    client behind a pooler. Once it is held, the server may stay silent for
    `patience` seconds. `on_wait` as in `open_session`. Raises Conflict if a dump of
    this database runs anywhere, ConfigurationError where the server opens
    another database than the one that is named, ConnectError, DumpError.
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
            text = told(error, info)
            raise ConnectError(
                "the server did not give a lock", detail=text, hint=hint_for(text)
            ) from None
        yield lock


def refuse_another_name(info: Conninfo, name: str) -> None:
    """Raise ConfigurationError where the server opens another database than the named one."""
    if name != info.database:
        raise ConfigurationError(
            f'the server opens database "{name}", where "{info.database}" is named',
            detail="A pooler, or a setting of libpq's own, leads to another database.",
            hint="Name the database in the URL as the server itself calls it.",
        )


def _lock(session: Session, info: Conninfo) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE
    while not session.ask("SELECT pg_try_advisory_xact_lock(%s)", LOCK):
        if time.monotonic() > deadline:
            holder = session.rows(_HOLDER, LOCK)
            raise Conflict(
                f'database "{info.database}" is being backed up by another panel',
                detail=_told_of(*holder[0]) if holder else "",
                hint="Wait until it has ended; pg_locks shows who holds the advisory lock. If it"
                " is no backup, end it with pg_terminate_backend.",
            )
        pause(0.1)


def _told_of(pid: int, role: str, name: str) -> str:
    return f'Process {pid} of role "{role}" holds its lock; it calls itself "{name}".'
