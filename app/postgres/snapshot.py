"""Hold one database's lock and snapshot while it is being dumped."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2

from app.errors import Conflict, ConnectError, DumpError
from app.postgres.census import STATEMENTS, Census, counting
from app.postgres.connection import OWN_PATH, OnWait, Session, hint_for, open_session, told
from app.postgres.conninfo import Conninfo
from app.postgres.tools import Version

Table = dict[str, Any]  # as `Snapshot.contents` tells of one

#: "Backstop" in ASCII: the advisory lock that all panels and hosts agree on.
LOCK = 0x4261636B73746F70

_CHECK_EVERY = 2.0  # seconds between two looks at the holding connection
_LOCK_PATIENCE = 2.0  # seconds; the session of a run that was killed ends a moment later

_BEGIN = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {OWN_PATH}"

# A role's own timeouts would end this transaction in the middle of a long
# dump. The keepalives make the server notice a panel whose machine has lost power:
# until then it would hold the lock, for two hours as the kernel has it.
# What was a table and is a view by now is not read, as pg_dump does not
# (CVE-2024-7348). pg_settings names only what this server's version knows.
_OWN_SETTINGS = """
    SELECT set_config(name, CASE name WHEN 'row_security' THEN 'off'
                                      WHEN 'constraint_exclusion' THEN 'off'
                                      WHEN 'restrict_nonsystem_relation_kind'
                                          THEN 'view, foreign-table'
                                      WHEN 'tcp_keepalives_idle' THEN '30'
                                      WHEN 'tcp_keepalives_interval' THEN '10'
                                      WHEN 'tcp_keepalives_count' THEN '3'
                                      ELSE '0' END, true)
    FROM pg_catalog.pg_settings
    WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                   'idle_in_transaction_session_timeout', 'row_security',
                   'constraint_exclusion', 'restrict_nonsystem_relation_kind',
                   'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count')
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
    SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
      AND (l.classid::bigint << 32 | l.objid::bigint) = %s
"""

# What a dump of this database holds, and what a restore must know of it. The
# tables are those whose data pg_dump writes: no members of extensions but for
# their configuration tables, and of a partitioned table its partitions alone.
# Read through to_jsonb: which columns pg_database has depends on the version.
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
              AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
              AND (NOT EXISTS (SELECT FROM pg_depend
                               WHERE classid = 'pg_class'::regclass AND objid = c.oid
                                 AND deptype = 'e')
                   OR EXISTS (SELECT FROM pg_extension WHERE c.oid = ANY (extconfig)))))
    FROM pg_database d WHERE d.datname = current_database()
"""


# A table that somebody wants to change is left uncounted: who never waits is
# part of no deadlock. A count that fails must not end the transaction.
_BEFORE_COUNTING = """
    SET LOCAL lock_timeout = 1;
    SET LOCAL max_parallel_workers_per_gather = 0;
    SAVEPOINT counting
"""
# To plan a query is to work out what is constant in the expressions of a table's
# indexes and statistics: functions of others would run with our rights.
_UNTRUSTED = """
    SELECT part.relid::bigint FROM (
        SELECT indrelid, 'pg_class'::regclass, indexrelid FROM pg_index
        WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
        UNION ALL
        SELECT stxrelid, 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext
    ) part (relid, classid, objid)
    WHERE EXISTS (SELECT FROM pg_depend d
                  WHERE (d.classid, d.objid) = (part.classid, part.objid)
                    AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass))
"""
_BATCH = 100  # tables in one statement
_BATCH_PAGES = 32_768  # 256 MB


def _in_batches(tables: Iterable[Table]) -> deque[list[Table]]:
    batches: deque[list[Table]] = deque()
    pages = _BATCH_PAGES
    for table in tables:
        if pages >= _BATCH_PAGES or len(batches[-1]) >= _BATCH:
            batches.append([])
            pages = 0
        batches[-1].append(table)
        pages += table["pages"]
    return batches


class Snapshot:
    """An exported snapshot, valid for as long as its transaction is open."""

    def __init__(
        self, session: Session, info: Conninfo, snapshot_id: str, pid: int, patience: float
    ) -> None:
        self._session = session
        self._info = info
        self._pid = pid
        self._patience = patience
        self._checked = time.monotonic()
        self._asked: list[Table] | None = None  # tables; none of them: a sign of life
        self._has_counted = False
        self._prepared: deque[list[Table]] = deque()
        self._uncounted: deque[list[Table]] = deque()
        self.id = snapshot_id
        self.rows: dict[int, int] = {}  # of the tables that were counted, by oid

    @property
    def server_version(self) -> Version:
        return self._session.server_version

    def database_size(self) -> int:
        """How large the database is on the server, in bytes."""
        with self._watched("the size of the database cannot be read"):
            return int(self._ask("SELECT pg_database_size(current_database())"))

    def contents(self) -> dict[str, Any]:
        """What a restore must know: encoding, locale, owner, extensions, and the tables.

        The tables are those whose data a dump carries: oid, schema, name, and
        the server's own estimates of pages and rows (-1: never counted). Of an
        `extension` it carries only some rows.
        """
        with self._watched("what the database holds cannot be read"):
            return dict(self._ask(_CONTENTS))

    def census(self) -> Census:
        """Objects, owners, grants and settings, to be compared with what a restore brings."""
        with self._watched("what the database holds cannot be counted"):
            return {part: self._ask(sql) for part, sql in STATEMENTS.items()}

    def count(self, tables: Iterable[Table]) -> None:
        """Prepare to count the rows of these tables.

        Left out are those whose count could run a function that is not the server's.
        """
        with self._watched("the tables cannot be counted"):
            untrusted = {oid for (oid,) in self._session.rows(_UNTRUSTED, patience=self._patience)}
            self._session.rows(_BEFORE_COUNTING, patience=self._patience)
        self._prepared = _in_batches(each for each in tables if each["oid"] not in untrusted)

    def begin_counting(self) -> None:
        """Begin with it, now that pg_dump holds its locks; `check` goes on with it.

        Before, a table could be emptied between our look and pg_dump's.
        """
        self._uncounted = self._prepared

    def stop_counting(self) -> None:
        """Begin with no more tables: once pg_dump has let them go, others may change them.

        Those that are being counted now are locked by us as well.
        """
        self._uncounted.clear()

    def check(self, *, now: bool = False) -> None:
        """Make sure that lock and snapshot are still held; asked every few seconds.

        Does not wait for the answer, which the next calls look for, unless it
        must be known `now`: then what is still being counted is given up.
        Raises DumpError if they are not held: what pg_dump wrote since may
        then stand beside another dump, or be of another moment.
        """
        with self._watched("the connection that holds the snapshot was lost"):
            if self._asked is not None and not self._hear(now=now):
                return
            if self._uncounted and not now:
                self._begin(self._uncounted.popleft())
            elif now or time.monotonic() > self._checked + _CHECK_EVERY:
                self._begin([])
                if now:
                    self._session.wait()
                    self._asked = None

    def _begin(self, tables: list[Table]) -> None:
        """Ask for the rows of these tables; without any, for a sign of life."""
        self._asked = tables
        patience = float("inf") if tables else self._patience
        # Lets the locks of the tables before go, or the error that ended their count.
        before = "ROLLBACK TO SAVEPOINT counting; " if self._has_counted else ""
        named = [(each["oid"], each["schema"], each["name"]) for each in tables]
        asked = counting(named) if tables else "SELECT 1"
        self._session.begin(before + asked, patience=patience)
        self._has_counted = self._has_counted or bool(tables)

    def _hear(self, *, now: bool) -> bool:
        """Whether what was asked for has been answered, or given up."""
        try:
            if now and self._asked:
                self._give_up()
            rows = self._session.wait() if now else self._session.poll()
        except psycopg2.Error as error:
            if not self._asked or error.pgcode is None:
                raise
            if not now:
                self._begin([])  # ends the aborted state at once
                return False
        else:
            if rows is None:
                return False
            if self._asked:
                self.rows.update(rows)
        self._asked, self._checked = None, time.monotonic()
        return True

    def _give_up(self) -> None:
        """Cancel what is being counted; the answer says so, or that it had just ended."""
        name = "backstop cancel"
        with open_session(self._info, application_name=name, patience=self._patience) as other:
            other.ask("SELECT pg_catalog.pg_cancel_backend(%s)", self._pid)

    def _ask(self, sql: str) -> Any:
        return self._session.ask(sql, patience=self._patience)

    @contextmanager
    def _watched(self, message: str) -> Iterator[None]:
        try:
            yield
        except psycopg2.Error as error:
            text = told(error, self._info)
            raise DumpError(
                message,
                detail=text,
                hint=hint_for(text) or "Look into the server's log for why it ended the session.",
            ) from None


@contextmanager
def hold_snapshot(
    info: Conninfo, *, application_name: str, patience: float = 60, on_wait: OnWait = None
) -> Iterator[Snapshot]:
    """Lock the database against other dumps and export a snapshot of it.

    The lock belongs to the transaction that exports the snapshot: a session's
    lock would outlive its client behind a pooler. Once the snapshot is held,
    the server may stay silent for `patience` seconds. `on_wait` as in
    `open_session`. Raises Conflict if another dump of this database runs
    anywhere, ConnectError, DumpError.
    """
    with open_session(info, application_name=application_name, on_wait=on_wait) as session:
        try:
            session.rows(_BEGIN)
            session.rows(_OWN_SETTINGS)
            _lock(session, info)
            session.rows(_LEFTOVERS)
            ((snapshot_id, pid),) = session.rows("SELECT pg_export_snapshot(), pg_backend_pid()")
            snapshot = Snapshot(session, info, snapshot_id, pid, patience)
        except psycopg2.Error as error:
            text = told(error, info)
            raise ConnectError(
                "the server did not give a snapshot", detail=text, hint=hint_for(text)
            ) from None
        yield snapshot


def _lock(session: Session, info: Conninfo) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE
    while not session.ask("SELECT pg_try_advisory_xact_lock(%s)", LOCK):
        if time.monotonic() > deadline:
            holder = session.ask(_HOLDER, LOCK)
            raise Conflict(
                f'database "{info.database}" is being backed up by another panel',
                detail=f"Its session calls itself {holder}." if holder else "",
                hint="Wait until it has ended; pg_locks shows who holds the advisory lock.",
            )
        time.sleep(0.1)
