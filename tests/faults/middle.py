"""A real backup held still in the middle of its run, by a lock that pg_dump waits for."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psutil
import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from app.models import DatabaseBackup, Status
from tests.conftest import HELD, HOLD, Database
from tests.faults.lab import PATIENCE, Lab, log_of, wait_until

_NAMED = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'backstop backup%%'"
HOLDER = f"{_NAMED} AND backend_xmin IS NULL AND state = 'idle in transaction'"
WAITING = f"{_NAMED} AND wait_event_type = 'Lock'"
DUMPING = f"{_NAMED} AND wait_event_type = 'Lock' AND query LIKE '%viewdef%'"


@dataclass
class Locker:
    """Somebody else's session that holds the lock."""

    connection: Connection

    def release(self) -> None:
        self.connection.commit()

    def works_on(self) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM orders")
            return cursor.fetchone() is not None


@contextmanager
def locked(database: Database) -> Iterator[Locker]:
    database.run(HELD)
    with closing(psycopg2.connect(database.url)) as connection, connection.cursor() as cursor:
        cursor.execute(HOLD)
        yield Locker(connection)


@contextmanager
def locked_table(database: Database, table: str = "orders") -> Iterator[Locker]:
    """A table that a backup waits for before pg_dump begins."""
    with closing(psycopg2.connect(database.url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield Locker(connection)


def until_it_waits(lab: Lab, runner: psutil.Popen) -> psutil.Popen:
    """Wait until the runner, or its pg_dump, waits for the lock."""
    wait_until(lambda: lab.server.run(WAITING) or runner.poll() is not None, "pg_dump to wait")
    assert runner.poll() is None, log_of(runner)
    return runner


def waiting_backup(lab: Lab, **more: str) -> psutil.Popen:
    return until_it_waits(lab, lab.start("backup", "create", **more))


def failed(lab: Lab, create: psutil.Popen) -> DatabaseBackup:
    """The row of a run that has failed, and was told so in the terminal."""
    assert create.wait(PATIENCE) == 1, log_of(create)
    row = lab.rows()[lab.newest(Status.FAILED)]
    assert f"Error: {row.error_message}" in log_of(create)
    assert "Traceback" not in log_of(create)
    return row


def told(row: DatabaseBackup) -> str:
    return f"{row.error_message} | {row.error_detail} | {row.error_hint}"
