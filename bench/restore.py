"""What a drill costs, and for how long a replaced database is away.

    python bench/restore.py [MEGABYTES [CLIENTS]]

On a database of about that size (1,000 by default): a drill, which makes and
removes a server of its own, beside a bare pg_restore into an empty database of
a server that runs; then a replace beside `pg_restore -c` into
the living one, while clients (60 by default) read it in a loop and reconnect
at once. What counts are the ratios, and the longest time between two answers
that any client got.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psycopg2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app import create_app
from app.models import Kind, Restore, Trigger
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.databases import at_database
from app.postgres.embedded import EmbeddedServer
from app.postgres.tools import Version, choose_toolchain, find_toolchains
from app.services.backups import service as backups
from app.services.catalogue.state import prepare_catalogue
from app.services.restores import service as restores
from bench.backup import TABLES
from tests.conftest import settings_in, url_of

Result = TypeVar("Result")


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    clients = int(sys.argv[2]) if len(sys.argv) > 2 else 60  # noqa: PLR2004
    with tempfile.TemporaryDirectory(prefix="backstop-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = EmbeddedServer(folder / "server")
        with server.used():
            info = server.conninfo()
            run(info, "ecom", TABLES.format(rows=megabytes * 3_300))
            run(info, "ecom", "CHECKPOINT")
            url = url_of(info, "ecom")
            app = create_app(settings_in(folder, url, stall_timeout=300, dump_timeout=3600))
            with app.app_context():
                prepare_catalogue()
                measure(info, folder, clients)


#: The floor below any swap: whoever was signed in must sign in anew.
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ecom'"


def run(info: Conninfo, database: str, sql: str) -> None:
    with closing(psycopg2.connect(url_of(info, database))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)


def measure(info: Conninfo, folder: Path, clients: int) -> None:
    backup, took = timed(lambda: backups.create_backup(trigger=Trigger.CLI))
    assert backup.is_completed, backup.error_message
    filename, dump = backup.filename, folder / "backups" / backup.filename
    print(f"{took:6.2f} s  a backup; its dump is {dump.stat().st_size / 1e6:.0f} MB")

    bare_1, bare_2 = (bare_restore(info, folder, dump, jobs) for jobs in (1, 2))
    drill, whole = timed(lambda: restored(filename, Kind.DRILL))
    print(f"{bare_1:6.2f} s  pg_restore -j1 into an empty database, bare")
    print(f"{bare_2:6.2f} s  pg_restore -j2, the same")
    print(f"{drill.result['seconds']:6.2f} s  the drill's restore, counted and analysed")
    print(f"{whole:6.2f} s  the whole drill")
    print(f"drill / pg_restore -j2: {whole / bare_2:.2f}, -j1: {whole / bare_1:.2f}")

    with readers(info, clients) as gaps:
        replace, whole = timed(lambda: restored(filename, Kind.REPLACE))
    print(f"\n{whole:6.2f} s  a replace, its safety backup included, with {clients} clients")
    print(f"longest time without an answer for any of them: {max(gaps):.3f} s (aim: below 0.2)")
    print(f"the swap itself: {replace.result['awaySeconds']:.3f} s")
    with readers(info, clients) as gaps:
        run(info, "postgres", END_SESSIONS)
        time.sleep(2)
    print(f"the same clients, where their sessions are ended and nothing else: {max(gaps):.3f} s")

    with readers(info, clients) as gaps:
        usual = ("-c", "--if-exists")
        status, took = timed(lambda: pg_restore(info, folder, dump, "ecom", *usual))
    print(f"{took:6.2f} s  pg_restore -c into the living database; exit status {status}")
    print(f"longest time without an answer for any of them: {max(gaps):.3f} s")


def restored(filename: str, kind: Kind) -> Restore:
    row = restores.create_restore(filename, kind, trigger=Trigger.CLI)
    assert row.is_completed, (row.error_message, row.error_detail)
    return row


def bare_restore(info: Conninfo, folder: Path, dump: Path, jobs: int) -> float:
    run(info, "postgres", "CREATE DATABASE bare TEMPLATE template0")
    status, took = timed(lambda: pg_restore(info, folder, dump, "bare", f"-j{jobs}"))
    assert status == 0
    run(info, "postgres", "DROP DATABASE bare")
    return took


def pg_restore(info: Conninfo, folder: Path, dump: Path, database: str, *options: str) -> int:
    """Its exit status: the usual recipe ignores errors, and says so at its end."""
    with closing(psycopg2.connect(url_of(info, database))) as connection:
        version = Version.of_number(connection.server_version)
    program = choose_toolchain(find_toolchains(), version).pg_restore
    target = at_database(info, database).dsn()
    with client_environment(info, folder / "private") as environment:
        argv = [program, *options, "-d", target, dump]
        return subprocess.run(
            argv, env=os.environ | environment, check=False, stderr=subprocess.DEVNULL
        ).returncode


@contextmanager
def readers(info: Conninfo, number: int) -> Iterator[list[float]]:
    """Clients that read a row again and again, and reconnect at once; their longest gaps."""
    gaps = [0.0] * number
    over = threading.Event()
    begun = threading.Barrier(number + 1)  # all that sign in at once is no gap

    def read(at: int) -> None:
        answered: float | None = None
        while not over.is_set():
            with (
                suppress(psycopg2.Error),
                closing(psycopg2.connect(url_of(info, "ecom"))) as connection,
            ):
                connection.autocommit = True
                with connection.cursor() as cursor:
                    while not over.is_set():
                        cursor.execute("SELECT code FROM bench.items WHERE id = 7")
                        cursor.fetchone()
                        if answered is None:
                            begun.wait()
                        else:
                            gaps[at] = max(gaps[at], time.monotonic() - answered)
                        answered = time.monotonic()
                        over.wait(0.02)
            over.wait(0.005)

    threads = [threading.Thread(target=read, args=(at,)) for at in range(number)]
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        yield gaps
    finally:
        over.set()
        for thread in threads:
            thread.join()


def timed(act: Callable[[], Result]) -> tuple[Result, float]:
    started = time.monotonic()
    result = act()
    return result, time.monotonic() - started


if __name__ == "__main__":
    main()
