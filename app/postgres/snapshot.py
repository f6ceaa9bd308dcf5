"""Hold one database's lock and snapshot while it is being dumped."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from app.errors import Conflict, ConnectError, DumpError
from app.postgres.connection import ServerFacts, connect, hint_for, server_facts, told
from app.postgres.conninfo import Conninfo

#: "Backstop" in ASCII: the advisory lock that all panels and hosts agree on.
LOCK = 0x4261636B73746F70

_CHECK_EVERY = 5.0  # seconds between two looks at the holding connection

# A role's own timeouts would end this transaction in the middle of a long
# dump. pg_settings names only what this server's version knows.
_NO_TIMEOUTS = """
    SELECT set_config(name, CASE name WHEN 'row_security' THEN 'off' ELSE '0' END, true)
    FROM pg_settings
    WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                   'idle_in_transaction_session_timeout', 'row_security')
"""


class Snapshot:
    """An exported snapshot, valid for as long as its transaction is open."""

    def __init__(self, connection: Connection, info: Conninfo) -> None:
        self._connection = connection
        self._info = info
        self._checked = time.monotonic()
        self.facts: ServerFacts = server_facts(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_export_snapshot()")
            row = cursor.fetchone()
        self.id: str = row[0] if row else ""

    def check(self, *, now: bool = False) -> None:
        """Make sure that lock and snapshot are still held; asked every few seconds.

        Raises DumpError if they are not: what pg_dump wrote since may then
        stand beside another dump, or be of another moment.
        """
        if not now and time.monotonic() < self._checked + _CHECK_EVERY:
            return
        self._checked = time.monotonic()
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.Error as error:
            text = told(error, self._info)
            raise DumpError(
                "the connection that holds the snapshot was lost",
                detail=text,
                hint=hint_for(text) or "Look into the server's log for why it ended the session.",
            ) from None


@contextmanager
def hold_snapshot(info: Conninfo, *, application_name: str) -> Iterator[Snapshot]:
    """Lock the database against other dumps and export a snapshot of it.

    The lock belongs to the transaction that exports the snapshot: a session's
    lock would outlive its client behind a pooler. Raises Conflict if another
    dump of this database runs anywhere, ConnectError, DumpError.
    """
    with connect(info, application_name=application_name) as connection:
        connection.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute(_NO_TIMEOUTS)
                cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,))
                row = cursor.fetchone()
            if row is None or not row[0]:
                raise Conflict(
                    f'database "{info.database}" is being backed up by another panel',
                    hint="Wait until it has ended; pg_locks shows who holds the advisory lock.",
                )
            snapshot = Snapshot(connection, info)
        except psycopg2.Error as error:
            text = told(error, info)
            raise ConnectError(
                "the server did not give a snapshot", detail=text, hint=hint_for(text)
            ) from None
        yield snapshot
