"""Panels to break, and what came of it."""

import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.postgres.conninfo import Conninfo
from app.services.databases.lookup import default_database
from tests.conftest import SMALL_SHOP, Database, url_of
from tests.faults.kills import fall
from tests.faults.lab import SEED, Lab


@pytest.fixture(scope="module")
def make_lab(server: Conninfo, sqlite_template: Path) -> Iterator[Callable[..., Lab]]:
    """Make panels, each with a database of its own that begins with `sql`."""
    admin = Database("postgres", url_of(server, "postgres"))
    made: list[Lab] = []

    def make(sql: str = SMALL_SHOP, **environment: str) -> Lab:
        name = f"lab_{secrets.token_hex(6)}"
        admin.run(f"CREATE DATABASE {name}")
        database = Database(name, url_of(server, name))
        database.run(sql)
        folder = Path(tempfile.mkdtemp(prefix="backstop-lab-"))
        (folder / "instance").mkdir()
        shutil.copy(sqlite_template, folder / "instance" / "catalogue.db")
        made.append(Lab(folder, database, admin, **environment))
        with made[-1].context():
            default_database()  # no later command makes its row
        return made[-1]

    yield make
    for lab in made:
        lab.close()
        admin.run(f"DROP DATABASE IF EXISTS {lab.database.name} WITH (FORCE)")
        shutil.rmtree(lab.folder)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A panel with a small shop, which all tests of a module share."""
    return make_lab()


@pytest.fixture
def worker(lab: Lab) -> Iterator[psutil.Popen]:
    """A worker that lives through a test."""
    worker = lab.start_worker()
    yield worker
    assert worker.poll() is None, "the worker has died of another one's end"
    fall(worker, signal.SIGTERM)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What `record_property("faults", …)` has told, and the seed that repeats it."""
    reports = (
        each
        for reports in terminalreporter.stats.values()
        for each in reports
        if isinstance(each, pytest.TestReport)
    )
    lines = [told for each in reports for name, told in each.user_properties if name == "faults"]
    terminalreporter.section(f"faults (FAULTS_SEED={SEED})")
    for line in dict.fromkeys(lines):
        terminalreporter.write_line(str(line))
