"""make run and its parts, as real processes: start, serve, and leave nothing behind."""

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import pytest
import requests
from flask import Flask

from app.config import ROOT
from app.extensions import db
from app.models import DatabaseBackup, Status, Trigger
from app.postgres.embedded import EmbeddedServer
from app.services.backups import listing
from app.services.backups import service as backups
from app.services.backups.filters import Filters
from app.services.jobs.progress import progress_of
from tests import forks
from tests.conftest import HELD, HOLD, Database, locked, sessions, waiting

pytestmark = pytest.mark.slow

PATIENCE = 120  # seconds


def wait_until(condition: Callable[[], object], what: str, tick: float = 0.05) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(tick)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@dataclass
class Home:
    """An instance folder and a folder of backups, for one or more runs."""

    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        kept = {"PATH", "HOME", "LANG"}
        # coverage measures child processes by these
        kept |= {name for name in os.environ if name.startswith("COVERAGE")}
        plain = {name: value for name, value in os.environ.items() if name in kept}
        return plain | {
            "BACKSTOP_INSTANCE_DIR": str(self.folder / "instance"),
            "BACKSTOP_BACKUP_DIR": str(self.folder / "backups"),
            "FLASK_SKIP_DOTENV": "1",
            **more,
        }

    def flask(self, *words: str, **more: str) -> forks.Ended:
        return forks.flask(words, env=self.environment(**more), timeout=PATIENCE)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    folder = Path(tempfile.mkdtemp(prefix="backstop-panel-"))
    folder.chmod(0o711)
    yield Home(folder)
    shutil.rmtree(folder)


class Panel:
    """`make run` on a port of its own, or on that of a panel before it."""

    def __init__(self, home: Home, port: int = 0, **more: str) -> None:
        self.port = port or free_port()
        self.log = home.folder / "panel.log"
        environment = home.environment(BACKSTOP_LISTEN=f"127.0.0.1:{self.port}", **more)
        with self.log.open("w") as log:
            self.make = psutil.Popen(
                ["make", "run", f"VENV={sys.prefix}"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: "Backstop runs at" in self.text() or self.make.poll() is not None, "it")
        assert self.make.poll() is None, self.text()
        self.processes = {self.make, *self.make.children(recursive=True)}
        self.postmaster = self._postmaster(home)
        if self.postmaster is not None:
            self.processes.add(self.postmaster)

    @staticmethod
    def _postmaster(home: Home) -> psutil.Process | None:
        pid = EmbeddedServer(home.folder / "instance").status().pid
        return psutil.Process(pid) if pid else None

    def text(self) -> str:
        return self.log.read_text()

    def part(self, name: str) -> psutil.Process:
        if name == "make":
            return self.make
        if name == "postgres":
            assert self.postmaster is not None
            return self.postmaster
        return next(
            each
            for each in self.processes
            if each.cmdline()[-1:] == [name] and each.pid != self.make.pid
        )

    def ends(self) -> None:
        self.make.wait(PATIENCE)
        wait_until(
            lambda: (
                not any(
                    each.is_running() and each.status() != psutil.STATUS_ZOMBIE
                    for each in self.processes
                )
            ),
            "every process to end",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.make.poll() is None:
            self.make.send_signal(signal.SIGTERM)
        self.ends()


def test_the_first_run_prints_where_and_who_and_the_second_changes_nothing(home: Home):
    with Panel(home) as panel:
        told = panel.text()
        assert f"Backstop runs at http://127.0.0.1:{panel.port}/admin/backup" in told
        password = re.search(r"Password +(\S+)", told)
        assert password is not None
        # Once when it is made, in case the start fails, and again after all that was logged.
        assert told.count(password[1]) == 2
        begin = told[told.rindex("Backstop runs at") :]
        assert "Backs up      ecom on embedded, the sample; set DATABASE_URL to your own" in begin
        assert password[1] in begin
        browser = requests.Session()
        base = f"http://127.0.0.1:{panel.port}/api/admin"
        who = {"username": "admin", "password": password[1]}
        assert browser.post(f"{base}/session", json=who, timeout=9).status_code == 200
        made = browser.post(f"{base}/backup", json={"notes": "first"}, timeout=60)
        assert made.status_code == 201, made.text
        name = made.json()["backup"]["filename"]

    with Panel(home, port=panel.port) as panel:  # cookies are for one port
        assert "Password" not in panel.text()
        base = f"http://127.0.0.1:{panel.port}/api/admin"
        # The same cookie: the key that signs it was kept.
        listed = browser.get(f"{base}/backup", timeout=9).json()["backups"]
        assert [(each["filename"], each["fileExists"]) for each in listed] == [(name, True)]


@pytest.mark.parametrize(
    ("part", "number"),
    [
        ("make", signal.SIGTERM),
        ("panel", signal.SIGTERM),
        ("panel", signal.SIGINT),
        ("postgres", signal.SIGINT),
        ("panel", signal.SIGKILL),
    ],
)
def test_without_its_server_or_supervisor_nothing_goes_on(home: Home, part: str, number: int):
    panel = Panel(home)
    wait_until(lambda: "worker started" in panel.text(), "the worker to hold the server")
    panel.part(part).send_signal(number)
    panel.ends()
    assert not can_connect(panel.port)
    assert "stopped" in home.flask("server", "status").stdout


def test_a_part_that_ends_is_started_again(home: Home):
    with Panel(home) as panel:
        for name, number in (("worker", signal.SIGKILL), ("web", signal.SIGTERM)):
            fallen, others = panel.part(name), panel.part({"web": "worker"}.get(name, "web"))
            fallen.send_signal(number)
            wait_until(lambda: not fallen.is_running(), f"the {name} to end")  # noqa: B023
            panel.processes.discard(fallen)

            def again(name: str = name) -> bool:
                panel.processes |= set(panel.make.children(recursive=True))
                return any(each.cmdline()[-1:] == [name] for each in panel.processes - {panel.make})

            wait_until(again, f"another {name}")
            assert f"The {name} process has ended; restarting it." in panel.text()
            assert others.is_running()
        wait_until(lambda: can_connect(panel.port), "the new web process to answer")
        assert home.flask("backup", "create").returncode == 0


def test_a_port_in_use_is_one_clear_message(home: Home):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        result = home.flask("panel", BACKSTOP_LISTEN=listen)
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: cannot listen on {listen}")
    assert "Hint:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKSTOP_LISTEN", "nonsense"),
        ("DATABASE_URL", "mysql://x"),
        ("BACKSTOP_PG_BIN_DIR", "/nowhere"),
        ("BACKSTOP_CATALOGUE_URL", "sqlite:////nowhere/at/all/catalogue.db"),
    ],
)
def test_a_wrong_setting_is_one_clear_message(home: Home, name: str, value: str):
    result = home.flask("panel", **{name: value})
    assert result.returncode == 1
    assert result.stderr.count("Error: ") == 1
    assert "Traceback" not in result.stderr
    assert name in result.stderr


def test_an_unreachable_database_is_told_and_the_panel_starts(home: Home):
    url = "postgresql://ann:canary-password@127.0.0.1:1/shop"
    first = {"BACKSTOP_ADMIN_PASSWORD": "canary-password of ours"}
    with Panel(home, DATABASE_URL=url, **first) as panel:
        assert 'no connection to database "shop"' in panel.text()
        assert "starts anyway" in panel.text()
        answer = requests.get(f"http://127.0.0.1:{panel.port}/admin/login", timeout=9)
        assert answer.status_code == 200
        for name in ("web", "worker"):
            assert "BACKSTOP_ADMIN_PASSWORD" not in panel.part(name).environ()
    assert "canary-password" not in panel.text()


def test_the_terminal_works_beside_a_running_panel_and_without_one(home: Home):
    with Panel(home):
        assert home.flask("backup", "create").returncode == 0
    alone = home.flask("backup", "create")
    assert alone.returncode == 0, alone.stderr
    assert "stopped" in home.flask("server", "status").stdout


def test_a_second_terminal_does_not_back_up_another_database(home: Home, shop: Database):
    with Panel(home, DATABASE_URL=shop.url):
        dumps = set((home.folder / "backups").glob("*.dump"))
        for words in (("create", "-q"), ("drill", "--latest"), ("prune", "--yes")):
            refused = home.flask("backup", *words)
            assert refused.returncode == 1, words
            told = f"the panel serves {shop.name}, but this command would use ecom"
            assert told in refused.stderr
            assert "DATABASE_URL" in refused.stderr
        assert set((home.folder / "backups").glob("*.dump")) == dumps
        assert "stopped" in home.flask("server", "status").stdout
        made = home.flask("backup", "create", DATABASE_URL=shop.url)
        assert f" of {shop.name} on " in made.stdout
        meant = home.flask("backup", "create", "-q", "--other-database")
        assert (meant.returncode, meant.stdout) == (0, "")
        assert meant.stderr == "This was the sample: DATABASE_URL is not set.\n"


def test_a_stopped_server_fails_the_backup_with_a_hint(home: Home):
    assert home.flask("server", "stop").returncode == 0
    failed = home.flask("backup", "create")
    assert failed.returncode == 1
    assert "flask server start" in failed.stderr
    listed = home.flask("backup", "list", "--status", "FAILED").stdout
    assert "FAILED" in listed
    assert home.flask("server", "start").returncode == 0
    assert "running" in home.flask("server", "status").stdout
    assert home.flask("backup", "create").returncode == 0
    assert "running" in home.flask("server", "status").stdout, "it was started by hand"
    assert home.flask("server", "stop").returncode == 0
    assert home.flask("server", "start", DATABASE_URL="postgresql://x@y/z").returncode == 1


def test_sigterm_to_the_terminal_leaves_a_failed_row_and_no_file(home: Home, shop):
    import psycopg2

    url = {"DATABASE_URL": shop.url}
    names = {path.name for path in (home.folder / "backups").glob("*.dump")}
    shop.run(HELD)
    with closing(psycopg2.connect(shop.url)) as holder, holder.cursor() as cursor:
        cursor.execute(HOLD)
        create = forks.Forked(["backup", "create"], env=home.environment(**url))
        partials = home.folder / "backups" / ".partial"
        wait_until(lambda: any(partials.glob("*.dump")), "the dump to begin")
        wait_until(lambda: any(each.name() == "pg_dump" for each in create.children()), "pg_dump")
        (pg_dump,) = create.children(recursive=True)
        create.send_signal(signal.SIGTERM)
        assert create.wait(PATIENCE) == 128 + signal.SIGTERM
        assert not pg_dump.is_running()
    assert list(partials.iterdir()) == []
    assert {path.name for path in (home.folder / "backups").glob("*.dump")} == names
    listed = home.flask("backup", "list", "--limit", "1", "--json", **url).stdout
    assert "the backup was interrupted" in listed
    assert home.flask("backup", "create", **url).returncode == 0


# How a worker stops


class Worker:
    """`flask worker` for the panel of an application, whose queue and catalogue it shares."""

    def __init__(self, app: Flask, **more: str) -> None:
        settings = app.extensions["backstop.settings"]
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "HOME", "LANG") or name.startswith("COVERAGE")
        } | {
            "FLASK_SKIP_DOTENV": "1",
            "BACKSTOP_INSTANCE_DIR": str(settings.instance_dir),
            "BACKSTOP_BACKUP_DIR": str(settings.backup_dir),
            "DATABASE_URL": settings.database_url,
            "SECRET_KEY": settings.secret_key,
            **more,
        }
        self.log = settings.instance_dir / "worker.log"
        with self.log.open("w") as log:
            self.process = forks.Forked(["worker"], env=environment, stdout=log, stderr=log)
        wait_until(lambda: "worker started" in self.text() or self.has_ended(), "the worker")
        assert not self.has_ended(), self.text()

    def text(self) -> str:
        return self.log.read_text()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.has_ended():
            for each in self.process.children(recursive=True):
                each.kill()
            self.process.kill()
            self.process.wait()


def row_of(filename: str) -> DatabaseBackup:
    db.session.rollback()
    return listing.get_backup(filename)


def is_last(filename: str) -> bool:
    progress = progress_of(row_of(filename))
    return progress is not None and progress.is_last


def before_a_locked_table(shop: Database) -> str:
    """The name of a new backup, which waits for that table by now."""
    filename = backups.queue_backup(trigger=Trigger.API, created_by="ann").filename
    wait_until(lambda: waiting(shop, filename), "pg_dump to wait for the lock")
    return filename


def partials(app: Flask) -> list[Path]:
    return list((app.extensions["backstop.settings"].backup_dir / ".partial").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_may_wait_ends_after_the_backup_that_it_runs(
    app: Flask, shop: Database, number: int
):
    with app.app_context(), Worker(app, BACKSTOP_WORKER_STOP="wait") as worker:
        with locked(shop):
            filename = before_a_locked_table(shop)
            assert not is_last(filename)
            worker.process.send_signal(number)
            wait_until(lambda: is_last(filename), "the row to tell that it is the last")
            assert not worker.has_ended()
            assert row_of(filename).is_pending
        assert worker.process.wait(PATIENCE) == 0, worker.text()
        row = row_of(filename)
        assert row.status is Status.COMPLETED, row.error_message
        assert (row.claimed_by, row.process, row.progress) == (None, None, None)
        assert partials(app) == []
        assert "worker stops" in worker.text()
        assert "Traceback" not in worker.text()

        after = backups.queue_backup(trigger=Trigger.API, created_by="ann").filename
        assert row_of(after).claimed_by is None, "it takes no other one"


@pytest.mark.parametrize("stop", ["wait", "interrupt", ""])
def test_a_worker_that_is_told_to_stop_at_once_leaves_a_failed_row_and_no_file(
    app: Flask, shop: Database, stop: str
):
    more = {"BACKSTOP_WORKER_STOP": stop} if stop else {}
    with app.app_context(), Worker(app, **more) as worker, locked(shop):
        filename = before_a_locked_table(shop)
        (pg_dump,) = worker.process.children(recursive=True)
        worker.process.send_signal(signal.SIGTERM)
        if stop == "wait":  # until somebody insists
            wait_until(lambda: is_last(filename), "the row to tell that it is the last")
            assert row_of(filename).is_pending
            worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(PATIENCE) == 0, worker.text()
        row = row_of(filename)
        assert row.status is Status.FAILED
        assert row.error_message == "the backup was interrupted"
        assert row.error_detail == "Its runner was stopped."
        assert (row.claimed_by, row.process) == (None, None)
        assert not pg_dump.is_running()
        wait_until(lambda: sessions(shop, filename) == 0, "its sessions to end")
        assert partials(app) == []
        assert listing.list_backups(Filters(status=Status.COMPLETED)).backups == []
        assert "Traceback" not in worker.text()


def test_a_worker_that_may_wait_and_has_nothing_to_do_ends_at_once(app: Flask):
    with app.app_context(), Worker(app, BACKSTOP_WORKER_STOP="wait") as worker:
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(10) == 0, worker.text()
