"""How long an application's DDL waits for a backup, beside the same for a bare pg_dump.

    python bench/waiting.py [MEGABYTES [ROUNDS]]

In turn: one of the two begins, and as soon as it has locked the first table, `ALTER TABLE`
asks for that table. What counts is the ratio of the two waits.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app import create_app
from app.models import Trigger
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.embedded import EmbeddedServer
from app.postgres.tools import Version, choose_toolchain, find_toolchains
from app.services.backups import service as backups
from app.services.catalogue.state import prepare_catalogue
from bench.backup import TABLES
from tests.conftest import settings_in, url_of

LOCKED = """
    SELECT count(*) FROM pg_locks
    WHERE relation = 'bench.items'::regclass AND mode = 'AccessShareLock' AND granted
      AND pid <> pg_backend_pid()
"""


def main() -> None:
    megabytes, rounds = [*map(int, sys.argv[1:]), *(300, 5)[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory(prefix="backstop-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = EmbeddedServer(folder / "instance")
        with server.used():
            measure(server.conninfo(), folder, megabytes, rounds)


def measure(info: Conninfo, folder: Path, megabytes: int, rounds: int) -> None:
    with closing(connected(info)) as connection, connection.cursor() as cursor:
        cursor.execute(TABLES.format(rows=megabytes * 3_300))
        cursor.execute("CHECKPOINT")
        version = Version.of_number(connection.server_version)
    pg_dump = choose_toolchain(find_toolchains(), version).pg_dump
    app = create_app(settings_in(folder, url_of(info, info.database)))
    with client_environment(info, folder / "private") as environment, app.app_context():
        prepare_catalogue()

        def bare() -> None:
            argv = [pg_dump, "-F", "c", "-b", "-w", "--compress=zstd:1", "-f", folder / "bare.dump"]
            subprocess.run([*argv, "-d", info.dsn()], env=os.environ | environment, check=True)

        def ours() -> None:
            with app.app_context():
                backup = backups.create_backup(trigger=Trigger.CLI, created_by="bench")
                assert backup.is_completed, backup.error_message

        waits: dict[Callable[[], None], list[float]] = {bare: [], ours: []}
        for _ in range(rounds):
            for run, seconds in waits.items():
                seconds.append(waited_for(run, info))
    for run, seconds in waits.items():
        print(f"{statistics.median(seconds):6.2f} s  ALTER TABLE waits for {run.__name__}")
    ratio = statistics.median(waits[ours]) / statistics.median(waits[bare])
    print(f"\nbackup / bare pg_dump: {ratio:.2f}")


def waited_for(run: Callable[[], None], info: Conninfo) -> float:
    """Seconds that ALTER TABLE waits for what runs, from when that has locked its table."""
    running = threading.Thread(target=run)
    with closing(connected(info)) as connection, connection.cursor() as cursor:
        running.start()
        while not locked(cursor):
            assert running.is_alive(), "it ended before it locked the table"
            time.sleep(0.005)
        began = time.monotonic()
        cursor.execute("ALTER TABLE bench.items ADD COLUMN more int")
        seconds = time.monotonic() - began
        running.join()
        cursor.execute("ALTER TABLE bench.items DROP COLUMN more")
    return seconds


def locked(cursor: psycopg2.extensions.cursor) -> bool:
    cursor.execute(LOCKED)
    return bool(cursor.fetchone()[0])


def connected(info: Conninfo) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(info.dsn(), password=info.password)
    connection.autocommit = True
    return connection


if __name__ == "__main__":
    main()
