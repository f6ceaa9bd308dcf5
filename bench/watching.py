"""What watching a backup costs, and how soon a cancelled one has ended.

    python bench/watching.py [MEGABYTES [ROUNDS]]

Makes backups of a database of about that size (1,000 by default) in turns:
as always, without counting rows meanwhile, and with everything else taken away
that looks after a running pg_dump (progress, lease, cancel, the holder of the
snapshot). Compares how long pg_dump takes. Then cancels backups at random
moments and measures until row, program, server sessions and partial tell that
it is over.
"""

import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import psycopg2
from flask import Flask

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app import create_app
from app.extensions import db
from app.models import Trigger
from app.postgres.counting import Counting
from app.postgres.embedded import EmbeddedServer
from app.postgres.locking import Lock
from app.services.backups import listing
from app.services.backups import run as backup_run
from app.services.backups import service as backups
from app.services.catalogue.state import prepare_catalogue
from app.services.databases.configured import storage
from app.services.jobs import claims
from app.services.jobs import run as job_run
from bench.backup import TABLES
from tests.conftest import settings_in, url_of


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7  # noqa: PLR2004
    with tempfile.TemporaryDirectory(prefix="backstop-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = EmbeddedServer(folder / "server")
        with server.used():
            url = url_of(server.conninfo(), "ecom")
            with psycopg2.connect(url) as connection, connection.cursor() as cursor:
                cursor.execute(TABLES.format(rows=megabytes * 3_300))
            connection.close()
            app = create_app(settings_in(folder, url, stall_timeout=300, dump_timeout=3600))
            with app.app_context():
                prepare_catalogue()
                compare(rounds)
                cancel(app, url, 3 * rounds)


# What watching costs


def compare(rounds: int) -> None:
    counted, watched, unwatched = [], [], []
    dump_once()  # everything is in memory from here on
    for _ in range(rounds):
        counted.append(dump_once())
        with mock.patch.object(Counting, "_count"):
            watched.append(dump_once())
            with nobody_looking():
                unwatched.append(dump_once())
    for name, times in (
        ("counted", counted),
        ("watched", watched),
        ("not watched", unwatched),
    ):
        told = f"best {min(times):.3f} s, median {statistics.median(times):.3f} s"
        print(f"pg_dump, {name + ':':<13} {told} of {rounds}")
    tell_ratio("watched / not watched", watched, unwatched, aim=1.03)
    tell_ratio("counted / watched", counted, watched, aim=1.10)


def tell_ratio(name: str, times: list[float], others: list[float], *, aim: float) -> None:
    best = min(times) / min(others)
    median = statistics.median(times) / statistics.median(others)
    print(f"{name}: best {best:.3f}, median {median:.3f}  (aim: below {aim:.2f})")


def dump_once() -> float:
    """The seconds that pg_dump took in one backup."""
    took: list[float] = []
    real = backup_run.dump

    def timed(*args: Any, **options: Any) -> None:
        started = time.monotonic()
        real(*args, **options)
        took.append(time.monotonic() - started)

    with mock.patch.object(backup_run, "dump", timed):
        backup = backups.create_backup(trigger=Trigger.CLI)
    assert backup.is_completed, backup.error_message
    backups.delete_backup(backup.filename)
    return took[0]


@contextmanager
def nobody_looking() -> Iterator[None]:
    @contextmanager
    def unwatched(*_: object) -> Iterator[Callable[[], None]]:
        yield lambda: None

    real_look = job_run.Run.check
    real_check = Lock.check

    def look(run: job_run.Run, *, now_at_once: bool = False) -> None:
        if now_at_once:
            real_look(run, now_at_once=True)

    def check(lock: Lock, *, now: bool = False) -> None:
        if now:
            real_check(lock, now=True)

    with (
        mock.patch.object(backup_run, "watched", unwatched),
        mock.patch.object(job_run.Run, "check", look),
        mock.patch.object(Lock, "check", check),
        mock.patch.object(claims, "note_process"),
    ):
        yield


# Cancel


def cancel(app: Flask, url: str, rounds: int) -> None:
    times = sorted(cancelled_after(app, url, random.uniform(0.05, 2.0)) for _ in range(rounds))  # noqa: S311
    print(
        f"cancel until row, program, sessions and partial are over: median"
        f" {statistics.median(times):.2f} s, longest {times[-1]:.2f} s of {rounds}  (aim: below 2)"
    )


def cancelled_after(app: Flask, url: str, seconds: float) -> float:
    backup = backups.queue_backup(trigger=Trigger.API, created_by="bench")

    def work() -> None:
        with app.app_context():
            backups.run_backup.call_local(backup.id)

    worker = threading.Thread(target=work)
    worker.start()
    until(lambda: psutil.Process().children())
    time.sleep(seconds)
    started = time.monotonic()
    backups.cancel_backup(backup.filename, by="bench")
    until(lambda: is_over(backup.filename, url))
    took = time.monotonic() - started
    worker.join()
    assert listing.get_backup(backup.filename).error_message == "cancelled by bench"
    return took


def is_over(filename: str, url: str) -> bool:
    db.session.commit()  # the next look shall see what the worker has written
    if listing.get_backup(filename).is_pending or psutil.Process().children():
        return False
    if storage().staged_size(filename):
        return False
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        cursor.execute(mine, [f"backstop {filename}"])
        return cursor.fetchone() == (0,)


def until(is_true: Callable[[], object]) -> None:
    while not is_true():
        time.sleep(0.01)


if __name__ == "__main__":
    main()
