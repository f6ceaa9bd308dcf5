"""Hold the snapshot of a database while it is dumped."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg2
from psycopg2 import errors

from app.errors import ConnectError, DumpError
from app.postgres.connection import OWN_PATH, OnWait, Session, open_session, server_error
from app.postgres.conninfo import Conninfo
from app.postgres.locking import OWN_SETTINGS, Lock, Pulse, watched
from app.postgres.relay import lent
from app.postgres.table_locks import Busy, found_too_few_locks, lock_tables, unlocked_tables
from app.postgres.table_locks import Table as LockedTable
from app.postgres.tools import Version

Table = dict[str, Any]  # one of the tables in `Snapshot.contents`

_ATTEMPTS = 20  # to take a snapshot that sees no table but the locked ones
_HAS_TRANSACTION_TIMEOUT = 17

# The first query begins the snapshot, and the tables must be locked before that.
_BEGIN = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {OWN_PATH}"

# What a dump of this database holds and a restore must know. The tables are those
# whose data pg_dump writes: of extensions their configuration tables alone, and of a
# partitioned table its partitions. to_jsonb, because the columns of pg_database depend
# on the version.
_CONTENTS = """
    SELECT jsonb_build_object(
        'encoding', pg_encoding_to_char(d.encoding),
        'collate', d.datcollate,
        'ctype', d.datctype,
        'localeProvider', to_jsonb(d) ->> 'datlocprovider',
        'locale', COALESCE(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
        'owner', pg_get_userbyid(d.datdba),
        'extensions', (
            SELECT COALESCE(jsonb_agg(jsonb_build_object('name', extname, 'version', extversion)
                                      ORDER BY extname), '[]')
            FROM pg_extension),
        'tables', (
            SELECT COALESCE(jsonb_agg(jsonb_build_object(
                                'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname,
                                'pages', c.relpages, 'rows', c.reltuples)
                            || CASE WHEN EXISTS (SELECT FROM pg_extension
                                                 WHERE c.oid = ANY (extconfig))
                                    THEN '{"extension": true}' ELSE '{}' END::jsonb
                            ORDER BY n.nspname, c.relname), '[]')
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'r' AND c.relpersistence <> 't'
              AND (c.relpersistence <> 'u' OR NOT pg_is_in_recovery())
              AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
              AND (NOT EXISTS (SELECT FROM pg_depend
                               WHERE classid = 'pg_class'::regclass AND objid = c.oid
                                 AND deptype = 'e')
                   OR EXISTS (SELECT FROM pg_extension WHERE c.oid = ANY (extconfig)))))
    FROM pg_database d WHERE d.datname = current_database()
"""


class Snapshot:
    """An exported snapshot, valid while its transaction is open.

    All tables that it sees and that our role can read are locked against statements that
    ignore snapshots: TRUNCATE, rewriting ALTER TABLE, CLUSTER, VACUUM FULL, DROP.
    """

    def __init__(self, session: Session, lock: Lock, snapshot_id: str) -> None:
        self._session = session
        self._lock = lock
        self._pulse = Pulse(session, lock.patience)
        self._is_lent = False
        self.id = snapshot_id
        self.info = lock.info

    @property
    def server_version(self) -> Version:
        return self._session.server_version

    def contents(self) -> dict[str, Any]:
        """What a restore must know: encoding, locale, owner, extensions, and the tables.

        The tables are those whose data a dump has: oid, schema, name, and the server's
        estimates of pages and rows (-1: never counted). Those with `extension` true are
        dumped in part.
        """
        with watched("the contents of the database cannot be read", self.info):
            self._pulse.settle()
            return dict(self._session.ask(_CONTENTS, patience=self._lock.patience))

    @contextmanager
    def lend(self) -> Iterator[Conninfo | None]:
        """Let a program use the locks and the snapshot; yields as `lent`."""
        with watched("the connection that holds the snapshot was lost", self.info):
            self._pulse.settle()
        with lent([self._session.connection], self._lock.database) as address:
            self._is_lent = address is not None
            yield address

    @contextmanager
    def lend_several(
        self, number: int, *, application_name: str, on_wait: OnWait
    ) -> Iterator[tuple[Conninfo | None, int]]:
        """Let a program use the locks and the snapshot in other sessions; yields as `lent`.

        There are fewer, or none, where somebody waits to change a table, behind whom they
        would queue; so their number is yielded, too.
        """
        with ExitStack() as stack:
            sessions: list[Session] = []
            with suppress(Busy, ConnectError, psycopg2.Error):
                for _ in range(number):
                    session = stack.enter_context(
                        open_session(self.info, application_name=application_name, on_wait=on_wait)
                    )
                    self._join(session)
                    sessions.append(session)
            if not sessions:
                yield None, 0
                return
            connections = [session.connection for session in sessions]
            yield stack.enter_context(lent(connections, self._lock.database)), len(sessions)

    def _join(self, session: Session) -> None:
        """Give a session the locks and the snapshot. Raises Busy, psycopg2.Error."""
        _begin(session)
        lock_tables(session, self._lock, None, 0)
        session.rows(f"SET TRANSACTION SNAPSHOT '{self.id}'")
        session.rows(OWN_SETTINGS)

    def check(self, *, now: bool = False) -> None:
        """Make sure that the snapshot is still held, as `Lock.check` does.

        While it is lent, the program that uses it notices. Raises DumpError.
        """
        if not self._is_lent:
            with watched("the connection that holds the snapshot was lost", self.info):
                self._pulse.feel(now=now)


@contextmanager
def take_snapshot(
    lock: Lock,
    *,
    application_name: str,
    lock_timeout: int = 30,
    with_views: bool = False,
    on_wait: OnWait = None,
) -> Iterator[Snapshot]:
    """Lock all tables of the database for reading, then export a snapshot that sees them.

    Others may keep a table locked for `lock_timeout` seconds. Views are locked only
    `with_views`, because that blocks whoever replaces them. Raises DumpError, ConnectError.
    """
    info = lock.info
    with open_session(info, application_name=application_name, on_wait=on_wait) as session:
        try:
            snapshot_id = _exported(session, lock, lock_timeout, with_views=with_views)
        except errors.OutOfMemory:
            raise found_too_few_locks(lock) from None
        except psycopg2.Error as error:
            message = "the server did not export a snapshot"
            raise server_error(ConnectError, message, error, info) from None
        yield Snapshot(session, lock, snapshot_id)


def _exported(session: Session, lock: Lock, lock_timeout: int, *, with_views: bool) -> str:
    deadline, attempts, busy = time.monotonic() + lock_timeout, 0, None
    while attempts < _ATTEMPTS:
        _begin(session)
        try:
            left = deadline - time.monotonic()
            not_possible = lock_tables(session, lock, busy, left, with_views=with_views)
            missed = unlocked_tables(
                session, not_possible, patience=lock.patience, with_views=with_views
            )
        except Busy as error:
            if time.monotonic() > deadline:
                raise _stayed_locked(error.table, lock_timeout) from None
            busy = error.table
        else:
            if not missed:
                session.rows(OWN_SETTINGS)
                return str(session.ask("SELECT pg_export_snapshot()"))
            attempts += 1
        session.rows("ROLLBACK")
    raise DumpError(
        "tables are created faster than they can be locked",
        detail=f"Each of {_ATTEMPTS} attempts found another new one.",
        hint="Start the backup again when the database is quieter.",
    )


def _begin(session: Session) -> None:
    session.rows(_BEGIN)
    timeouts = ["statement_timeout", "idle_in_transaction_session_timeout"]
    if session.server_version.major >= _HAS_TRANSACTION_TIMEOUT:
        timeouts.append("transaction_timeout")
    session.rows("; ".join(f"SET LOCAL {name} = 0" for name in timeouts))


def _stayed_locked(table: LockedTable, seconds: int) -> DumpError:
    return DumpError(
        f"a table stayed locked for longer than {seconds} s",
        detail=f"Another session held {table.schema}.{table.name}: lock timeout.",
        hint="Find the session that holds the lock in pg_stat_activity,"
        " or raise BACKSTOP_LOCK_TIMEOUT.",
    )
