"""Hold one database's lock and snapshot while it is being dumped."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from app.errors import Conflict, ConnectError, DumpError
from app.postgres.connection import Session, hint_for, open_session, told
from app.postgres.conninfo import Conninfo
from app.postgres.tools import Version

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

    def __init__(self, session: Session, info: Conninfo, snapshot_id: str) -> None:
        self._session = session
        self._info = info
        self._checked = time.monotonic()
        self.id = snapshot_id

    @property
    def server_version(self) -> Version:
        return self._session.server_version

    def check(self, *, now: bool = False) -> None:
        """Make sure that lock and snapshot are still held; asked every few seconds.

        Raises DumpError if they are not: what pg_dump wrote since may then
        stand beside another dump, or be of another moment.
        """
        if not now and time.monotonic() < self._checked + _CHECK_EVERY:
            return
        self._checked = time.monotonic()
        try:
            self._session.ask("SELECT 1")
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
    with open_session(info, application_name=application_name) as session:
        try:
            session.ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            session.ask(_NO_TIMEOUTS)
            if not session.ask("SELECT pg_try_advisory_xact_lock(%s)", LOCK):
                raise Conflict(
                    f'database "{info.database}" is being backed up by another panel',
                    hint="Wait until it has ended; pg_locks shows who holds the advisory lock.",
                )
            snapshot = Snapshot(session, info, session.ask("SELECT pg_export_snapshot()"))
        except psycopg2.Error as error:
            text = told(error, info)
            raise ConnectError(
                "the server did not give a snapshot", detail=text, hint=hint_for(text)
            ) from None
        yield snapshot
