"""How much a copy that is uploaded delays a backup, and how much memory the worker takes.

    python bench/copies.py [MEGABYTES]

Makes a database of about that size (1,000 by default), and backups of it: alone, and while a
worker copies an older dump, encrypted, to localbucket on this machine. Prints the ratio.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app import create_app
from app.config import load_settings
from app.encryption import make_identity
from app.models import Trigger
from app.postgres.embedded import EmbeddedServer
from app.services.copies import service
from bench.backup import ROUNDS, backup, fill, seconds
from tests.stores.servers import a_localbucket


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with (
        tempfile.TemporaryDirectory(prefix="backstop-bench-") as name,
        a_localbucket(Path(name) / "localbucket") as bucket,
    ):
        folder = Path(name)
        folder.chmod(0o711)
        for process in psutil.Process().children():
            process.nice(19)  # the bucket stands for another machine
        server = EmbeddedServer(folder / "instance")
        with server.used():
            fill(server, megabytes)
            alone = min(backups(folder))
            credentials = folder / "credentials"
            lines = [f"{key}={value}\n" for key, value in bucket.credentials.items()]
            credentials.write_text("".join(lines))
            recipient = make_identity().recipient.key
            url, given = bucket.url("bench"), ("--credentials-from", str(credentials))
            flask(folder, "store", "add", "bucket", url, *given, "--recipient", recipient)
            with working(folder) as worker, copying(folder) as copies:
                beside = min(backups(folder))
            print(f"{alone:6.2f} s  a backup alone")
            print(f"{beside:6.2f} s  a backup while copies are made")
            print(f"copies made meanwhile: {copies.made}")
            print(f"beside / alone: {beside / alone:.2f}  (aim: at most 1.1)")
            print(f"peak memory of the worker: {worker.peak / 2**20:.0f} MiB")


def backups(folder: Path) -> Iterator[float]:
    """Seconds of some backups, from request to COMPLETED."""
    rows: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        backup(folder, rows, [])
        yield seconds(rows[-1])


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "BACKSTOP_INSTANCE_DIR": str(folder / "instance"),
        "BACKSTOP_BACKUP_DIR": str(folder / "backups"),
    }


def flask(folder: Path, *words: str) -> str:
    argv = [sys.executable, "-m", "flask", *words]
    return subprocess.run(
        argv, cwd=ROOT, env=environment(folder), check=True, stdout=subprocess.PIPE, text=True
    ).stdout


class Watched:
    """A worker, and the most memory that it had."""

    def __init__(self, process: psutil.Popen) -> None:
        self.process, self.peak = process, 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self.process.poll() is None:
            try:
                self.peak = max(self.peak, self.process.memory_info().rss)
            except psutil.Error:
                return
            time.sleep(0.05)


@contextmanager
def working(folder: Path) -> Iterator[Watched]:
    argv = [sys.executable, "-m", "flask", "worker"]
    process = psutil.Popen(argv, cwd=ROOT, env=environment(folder), stderr=subprocess.DEVNULL)
    try:
        yield Watched(process)
    finally:
        process.terminate()
        process.wait()


class Copies:
    """How many copies were made."""

    made = 0


@contextmanager
def copying(folder: Path) -> Iterator[Copies]:
    """Have the worker copy the first dump again and again."""
    copies, ended = Copies(), threading.Event()
    name = min(path.name for path in (folder / "backups").glob("*.dump"))
    thread = threading.Thread(target=_copy_again, args=[folder, name, copies, ended])
    thread.start()
    try:
        yield copies
    finally:
        ended.set()
        thread.join()


def _copy_again(folder: Path, name: str, copies: Copies, ended: threading.Event) -> None:
    with mock.patch.dict(os.environ, environment(folder), clear=True):
        app = create_app(load_settings(dotenv=None))
    with app.app_context():
        while not ended.is_set():
            copy = service.copy_backup(name, "bucket", trigger=Trigger.CLI, by="bench")
            copy = service.wait_for_copy(copy.id, 600)
            assert copy.is_good, copy.error_message
            copies.made += 1
            service.remove_copy(copy.id, by="bench")


if __name__ == "__main__":
    main()
