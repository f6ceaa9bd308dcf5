"""The line to the server is cut, reset or goes silent: at connect, while it starts, in a COPY."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock
from urllib.parse import quote

import pytest

from app.config import bind_settings
from app.models import DatabaseBackup, Trigger
from app.postgres import connection
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from tests.faults.lab import SEED, Lab, N, chance
from tests.faults.line import WAYS, Line, socket_of

pytestmark = pytest.mark.faults

CUTS = 3 * N  # random ones
PATIENCE = 2  # seconds that a silent line is given

BIG = """
    CREATE TABLE first AS SELECT n, md5(n::text) FROM generate_series(1, 30000) n;
    CREATE TABLE second AS SELECT n, md5(n::text) FROM generate_series(1, 30000) n;
"""


@pytest.fixture(scope="module")
def line(server: Conninfo) -> Iterator[Line]:
    made = Line(socket_of(server))
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(server: Conninfo, line: Line, lab: Lab) -> str:
    """What DATABASE_URL is at the other end of the line."""
    account = f"{server.parameters['user']}:{quote(server.password, safe='')}"
    return f"postgresql://{account}@127.0.0.1:{line.port}/{lab.database.name}"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(BIG, BACKSTOP_STALL_TIMEOUT=str(PATIENCE))


@contextmanager
def impatient() -> Iterator[None]:
    with (
        mock.patch.object(connection, "CONNECT_TIMEOUT", PATIENCE),
        mock.patch.object(connection, "_ANSWER_TIMEOUT", PATIENCE),
    ):
        yield


def backed_up(lab: Lab, url: str) -> DatabaseBackup:
    """A backup over the line, as the terminal makes it, in our own process."""
    bind_settings(lab.app, replace(lab.settings, database_url=url))
    try:
        with lab.context(), impatient():
            return backups.create_backup(trigger=Trigger.CLI)
    finally:
        bind_settings(lab.app, lab.settings)


@pytest.fixture(scope="module")
def whole_run(lab: Lab, line: Line, url: str) -> int:
    """How many bytes come back from the server for one backup."""
    line.mend()
    assert backed_up(lab, url).is_completed
    return line.carried


def judge(lab: Lab, line: Line, made: DatabaseBackup, url: str, what: str) -> None:
    """A backup that failed says why and what to do, and everything is as it should be."""
    line.mend()
    if not made.is_completed:
        assert made.error_message, what
        assert made.error_hint, f"{what}: {made.error_message} {made.error_detail}"
        told = f"{made.error_message} {made.error_detail} {made.error_hint} {made.log}"
        assert quote(url) not in told
    lab.check()


@pytest.mark.parametrize("index", range(CUTS))
def test_a_line_that_is_cut_anywhere_leaves_a_whole_backup_or_none(  # noqa: PLR0917
    lab: Lab,
    line: Line,
    url: str,
    whole_run: int,
    index: int,
    record_property: Callable[[str, str], None],
):
    record_property("faults", f"{CUTS} random cuts of the line to the server")
    dice = chance("network", index)
    # Half of the cuts early, where connections are made, the others anywhere.
    after = int(whole_run ** dice.random()) if dice.random() < 0.5 else dice.randint(0, whole_run)
    way, to_all = dice.choice(WAYS[:2]), dice.random() < 0.5
    what = f"{way} after {after} of {whole_run} bytes, all={to_all}, FAULTS_SEED={SEED}"
    line.mend()
    fault = line.strike(after, way, to_all=to_all)
    made = backed_up(lab, url)
    if fault.has_struck.is_set() and after < whole_run // 2:
        assert not made.is_completed or not to_all, what
    judge(lab, line, made, url, what)


@pytest.mark.parametrize(
    ("share", "to_all"), [(0.0, True), (0.0001, True), (0.02, True), (0.6, True), (0.6, False)]
)
def test_a_line_that_goes_silent_ends_the_run_in_its_own_words(  # noqa: PLR0917
    lab: Lab, line: Line, url: str, whole_run: int, share: float, to_all: bool
):
    line.mend()
    fault = line.strike(int(whole_run * share), "stall", to_all=to_all)
    made = backed_up(lab, url)
    assert fault.has_struck.is_set()
    assert not made.is_completed
    told = f"{made.error_message} {made.error_detail}"
    assert f"did not move for {PATIENCE} s" in told or "timeout expired" in told, told
    judge(lab, line, made, url, f"stall after {share} of {whole_run} bytes")


@pytest.mark.parametrize("way", WAYS)
def test_the_real_program_says_what_happened_to_its_line(
    lab: Lab, line: Line, url: str, whole_run: int, way: str
):
    line.mend()
    line.strike(whole_run * 2 // 3, way, to_all=True)
    ended = lab.flask("backup", "create", DATABASE_URL=url)
    assert ended.returncode == 1, ended.stderr
    assert "Error: " in ended.stderr
    assert "Hint: " in ended.stderr
    assert "Traceback" not in ended.stderr
    line.mend()
    lab.check()
