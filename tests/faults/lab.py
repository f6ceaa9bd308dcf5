"""A panel to break, and the oracle that says afterwards whether its promises were kept.

catalogue = files; every COMPLETED backup passes its checksum and a full
read; older backups are byte-identical; no partial, no lock, no process, no
server session is left; the next backup succeeds.
"""

import hashlib
import os
import random
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any
from unittest import mock

import psutil
from sqlalchemy import select
from sqlalchemy.orm import undefer

from app import create_app
from app.config import ROOT, load_settings
from app.extensions import db, writing
from app.models import DatabaseBackup, Status, Trigger
from app.models.types import moment_text, now
from app.postgres.tools import find_toolchains
from app.queue import init_queues, queue
from app.services.backups import service as backups
from app.services.backups.manifests import read_manifest
from app.services.backups.queue import list_unclaimed
from app.services.databases.configured import Address
from app.services.databases.lookup import database_at
from app.services.jobs import claims
from app.services.jobs.settling import Reconciled
from app.services.recovery import reconcile
from tests.cli.test_panel import PATIENCE, Home, can_connect, free_port, wait_until
from tests.conftest import Database
from tests.forks import Forked

#: What all chance comes from: FAULTS_SEED=… repeats a run.
SEED = int(os.environ["FAULTS_SEED"])

#: How often each target is hit; a long run sets FAULTS_N=1000.
N = int(os.environ.get("FAULTS_N") or 4)

#: Up to this N a run takes what it is short of time for by samples: CI is such a run.
USUAL_N = 8

#: Who waits is run at once, and even if it was asked for by a clock that runs ahead.
_ANY_AGE = timedelta(days=-4000)

_KEPT = 8  # newest backups; older ones are deleted, so that a long run fills no disk


def chance(case: str, index: int = 0) -> random.Random:
    """The luck of one case: a function of seed, case and index alone."""
    return random.Random(f"{SEED} {case} {index}")  # noqa: S311 - it shall be repeatable


class Lab(Home):
    """A panel's home with a database behind it; the tests look after it in their own process."""

    def __init__(self, folder: Path, database: Database, server: Database, **more: str) -> None:
        super().__init__(folder)
        self.database, self.server, self._more = database, server, more
        self.backups = folder / "backups"
        self.partials = self.backups / ".partial"
        self.started: list[psutil.Popen] = []
        self.waited: set[str] = set()  # backups that nobody had claimed when the oracle came
        self._known: dict[str, tuple[str, bytes]] = {}
        self._digests: dict[tuple[int, ...], str] = {}
        self._read: set[str] = set()
        with mock.patch.dict(os.environ, self.environment(), clear=True):
            self.settings = load_settings(dotenv=None)
        self.app = create_app(self.settings)

    def environment(self, **more: str) -> dict[str, str]:
        url = {"DATABASE_URL": self.database.url}
        whole = super().environment(**(url | self._more | more))
        # To be measured would double the time that each of many processes takes.
        return {name: value for name, value in whole.items() if not name.startswith("COVERAGE")}

    @contextmanager
    def context(self) -> Iterator[None]:
        """The application's context in our own process: a Python process costs time."""
        if queue.app is not self.app:  # there is but one of each queue
            init_queues(self.app, self.settings.queue_url, self.settings.secret_key)
        with self.app.app_context():
            yield
            db.session.remove()

    def close(self) -> None:
        """End what a failed test has left."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self.started:
            started.wait(PATIENCE)
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()

    # -- Processes ---------------------------------------------------------

    def start(self, *words: str, **more: str) -> psutil.Popen:
        """Start `flask WORDS…`; what it says is in `log_of` it."""
        return self._started(
            lambda output: Forked(
                words,
                env=self.environment(**more),
                stdout=output,
                stderr=output,
                is_leader=True,
            )
        )

    def start_program(self, argv: list[str], **more: str) -> psutil.Popen:
        """Start another program in the same way."""
        return self._started(
            lambda output: psutil.Popen(
                argv,
                cwd=ROOT,
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        )

    def _started(self, start: Callable[[IO[str]], psutil.Popen]) -> psutil.Popen:
        log = self.folder / f"log-{len(self.started)}"
        with log.open("w") as output:
            process = start(output)
        process.log = log
        self.started.append(process)
        return process

    def start_worker(self, **more: str) -> psutil.Popen:
        """`flask worker`, when it is ready."""
        return self._ready(self.start("worker", **more), "worker started")

    def start_web(self, port: int = 0, **more: str) -> psutil.Popen:
        """`flask web`, when it answers on its `port`."""
        port = port or free_port()
        web = self.start("web", BACKSTOP_LISTEN=f"127.0.0.1:{port}", **more)
        web.port = port
        wait_until(lambda: can_connect(port) or web.poll() is not None, "the web process")
        assert web.poll() is None, log_of(web)
        return web

    def start_panel(self, port: int = 0, **more: str) -> psutil.Popen:
        """`flask panel`, when it serves."""
        port = port or free_port()
        panel = self.start("panel", BACKSTOP_LISTEN=f"127.0.0.1:{port}", **more)
        panel.port = port
        return self._ready(panel, "Backstop runs at")

    @staticmethod
    def _ready(process: psutil.Popen, words: str) -> psutil.Popen:
        wait_until(lambda: words in log_of(process) or process.poll() is not None, words)
        assert process.poll() is None, log_of(process)
        return process

    def processes(self, *but: psutil.Process) -> list[psutil.Process]:
        """Every living process whose words or environment name this lab's folder."""
        pids = {each.pid for each in but}
        return [
            each for each in psutil.process_iter() if each.pid not in pids and self._is_ours(each)
        ]

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid():
            return False
        if process in self.started:  # a fork's words and environment are those of its server
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        try:
            told = [*process.cmdline(), *process.environ().values()]
            return process.status() != psutil.STATUS_ZOMBIE and any(
                str(self.folder) in each for each in told
            )
        except (psutil.Error, OSError):  # it has ended meanwhile, or is the kernel's
            return False

    # -- Rows --------------------------------------------------------------

    def rows(self) -> dict[str, DatabaseBackup]:
        """Every row by its filename, oldest first; as they are now."""
        with self.context():
            by_age = select(DatabaseBackup).order_by(DatabaseBackup.created_at, DatabaseBackup.id)
            found = db.session.scalars(by_age.options(undefer(DatabaseBackup.contents))).all()
            db.session.expunge_all()
        return {row.filename: row for row in found}

    def newest(self, status: Status = Status.COMPLETED) -> str:
        """The name of the newest backup of this status."""
        return [name for name, row in self.rows().items() if row.status is status][-1]

    def make_backup(self, notes: str = "") -> str:
        """Make a backup in our own process; it must succeed."""
        with self.context():
            made = backups.create_backup(trigger=Trigger.CLI, notes=notes)
            assert made.is_completed, f"{made.error_message} {made.error_detail}"
            return made.filename

    def wreck(self) -> tuple[str, str]:
        """Leave what killed processes leave, of every kind.

        Returns the names of a backup that died after publishing, which must
        come back, and of one whose delete was begun, which must go.
        """
        while len(whole := [name for name, row in self.rows().items() if row.is_completed]) < 4:
            self.make_backup()
        published, doomed = whole[-3:-1]  # not the oldest, which `check` prunes
        self.lose_runner_of(published)
        self.forget(doomed)
        lost = f"backup_lost-{secrets.token_hex(8)}.dump"
        with self.context():
            another = database_at(Address("another", "another")).id
        with self.context(), writing() as session:
            self._row(doomed).delete_requested_at = now()
            other = DatabaseBackup(filename=lost, server="another", database="another")
            other.database_id, other.trigger = another, Trigger.CLI
            session.add(other)
            other.claim(_gone_runner())
        self.partials.mkdir(exist_ok=True)
        (self.partials / lost).write_bytes(b"PGDMP and no more")
        (self.partials / f"{lost}.json.0123abcd").write_bytes(b"{")
        for number in range(3):
            lone = self.backups / f"backup_lone-{number}.dump.json"
            shutil.copy(self.backups / f"{published}.json", lone)
        private = self.settings.instance_dir / "private"
        private.mkdir(mode=0o700, exist_ok=True)
        (private / "pgpass-999999999-00").touch(mode=0o600)
        return published, doomed

    def lose_runner_of(self, published: str) -> None:
        """As if its runner had died between the dump's final name and the row."""
        with self.context(), writing():
            row = self._row(published)
            started_at = row.started_at
            row.status = Status.PENDING
            row.claim(_gone_runner())
            row.started_at = started_at  # as its manifest says

    @staticmethod
    def _row(name: str) -> DatabaseBackup:
        return db.session.scalars(select(DatabaseBackup).filter_by(filename=name)).one()

    def forget(self, filename: str) -> None:
        """From now on this backup may be changed or gone: the test has asked for it."""
        self._known.pop(filename, None)

    # -- The oracle --------------------------------------------------------

    def check(self, *living: psutil.Process) -> None:
        """Assert every promise, after a fault and one reconcile.

        `living` are processes that the fault was not meant for; what they
        started must be gone all the same.
        """
        nothing_is_left(lambda: self._commands(*living), "flask commands")
        self._mend()
        self._compare()
        self.make_backup("after the fault")
        self._compare()
        nothing_is_left(lambda: self.processes(*living), "processes")
        nothing_is_left(self.sessions, "server sessions")
        nothing_is_left(self._locks, "advisory locks")
        self._prune()

    def _commands(self, *living: psutil.Process) -> list[psutil.Process]:
        """Those that may still be ending as they should, and are reconcile's equals."""
        return [each for each in self.processes(*living) if "flask" in _words(each)]

    def _mend(self) -> None:
        with self.context():
            reconcile()
            # What nobody has claimed only waits for a worker: here it is.
            for waiting in list_unclaimed(older_than=_ANY_AGE):
                self.waited.add(waiting.filename)
                backups.run_backup.call_local(waiting.id)
        mended = self._picture()
        with self.context():
            assert reconcile() == Reconciled(), "a second reconcile found something"
        assert self._picture() == mended, "a second reconcile changed something"

    def _picture(self) -> tuple[Any, ...]:
        """Everything that reconcile could change; whom a living worker has told is not of it."""
        rows = {
            name: {
                key: value for key, value in vars(row).items() if key[0] != "_" and key != "told_at"
            }
            for name, row in self.rows().items()
        }
        files = {path: _print_of(path) for path in self.backups.rglob("*") if path.is_file()}
        return rows, files

    def _compare(self) -> None:
        rows = self.rows()
        states = {row.status for row in rows.values()}
        assert Status.PENDING not in states, "a row is PENDING"
        assert not [row for row in rows.values() if row.delete_requested_at], "a delete is open"
        whole = {name: row for name, row in rows.items() if row.is_completed}
        for name, row in rows.items():
            assert row.is_completed or (row.error_message and not row.size), f"{name}: no reason"
        expected = {*whole, *(f"{name}.json" for name in whole)}
        found = {path.name for path in self.backups.glob("*")} - {".partial"}
        assert found == expected, f"catalogue and files: {sorted(found ^ expected)}"
        for folder in (self.partials, self.settings.instance_dir / "private"):
            left = sorted(folder.iterdir()) if folder.is_dir() else []
            assert not left, f"left behind: {left}"
        for name, row in whole.items():
            self._compare_one(name, row)
        for name, (digest, manifest) in self._known.items():
            assert name in whole, f"{name} has gone"
            assert self._digest(self.backups / name) == digest, f"{name} was changed"
            assert _manifest(self.backups / name) == manifest, f"the manifest of {name} was changed"
        self._known |= {
            name: (row.sha256, _manifest(self.backups / name)) for name, row in whole.items()
        }

    def _compare_one(self, name: str, row: DatabaseBackup) -> None:
        path = self.backups / name
        assert path.stat().st_size == row.size, f"{name} has another size"
        assert self._digest(path) == row.sha256, f"{name} has another checksum"
        told = read_manifest(_manifest(path))
        recorded = {
            "id": row.id,
            "filename": name,
            "size": row.size,
            "sha256": row.sha256,
            "oldestReader": row.oldest_reader,
            "server": row.server,
            "database": row.database,
            "serverVersion": row.server_version,
            "toolVersion": row.tool_version,
            "compression": row.compression,
            "trigger": row.trigger.value,
            "createdBy": row.created_by,
            "databaseSize": row.database_size,
            "contents": row.contents,
            "createdAt": moment_text(row.created_at),
            "startedAt": moment_text(row.started_at),
            "finishedAt": moment_text(row.finished_at),
            "notes": row.notes,
        }
        differing = {key for key, value in recorded.items() if told[key] != value}
        assert not differing, f"row and manifest of {name} differ in {sorted(differing)}"
        if row.sha256 not in self._read:
            newest = max(find_toolchains(None), key=lambda each: each.version.major)
            subprocess.run([newest.pg_restore, "-f", "/dev/null", path], check=True, timeout=60)
            self._read.add(row.sha256)

    def _digest(self, path: Path) -> str:
        """The SHA-256 of a file; read again whenever anything was done to it."""
        key = _print_of(path)
        if key not in self._digests:
            with path.open("rb") as file:
                self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[key]

    def sessions(self) -> list[Any]:
        """What the server says of our connections to it."""
        return self.server.run(
            "SELECT pid, application_name, state, wait_event_type FROM pg_stat_activity"
            " WHERE application_name LIKE 'backstop%'"
        )

    def _locks(self) -> list[Any]:
        return self.server.run("SELECT * FROM pg_locks WHERE locktype = 'advisory'")

    def _prune(self) -> None:
        old = [name for name, row in self.rows().items() if row.is_completed][:-_KEPT]
        with self.context():
            for name in old:
                self.forget(name)
                backups.delete_backup(name)


def _gone_runner() -> str:
    """A runner with our pid, but of an earlier process."""
    return f"{claims.runner().rpartition(' ')[0]} 1"


def log_of(process: psutil.Popen) -> str:
    """What a process that a lab has started said."""
    return process.log.read_text()


def awaited(find: Callable[[], Any], what: str) -> Any:
    """What `find` finds, as soon as it finds something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := find()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.005)
    return found


def nothing_is_left(find: Callable[[], list[Any]], what: str) -> None:
    """Wait until nothing is found any more."""
    deadline = time.monotonic() + PATIENCE
    while found := find():
        assert time.monotonic() < deadline, f"{what} left: {found}"
        time.sleep(0.01)


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def _manifest(dump: Path) -> bytes:
    return dump.with_name(f"{dump.name}.json").read_bytes()


def _print_of(path: Path) -> tuple[int, ...]:
    """Changes with every write: nobody can set the time of a file's last change."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
