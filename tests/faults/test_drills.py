"""A drill that is killed, or whose server is: nothing of it is left on the machine."""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.models import Proof, Restore, Result, Status
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from app.services.recovery import reconcile
from app.services.restores import drill_server
from app.services.restores import service as restores
from tests.faults.lab import PATIENCE, Lab, log_of, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

# It is loaded for a second, and asked for another one.
_SHOP = """
    CREATE TABLE orders AS SELECT n, md5(n::text) FROM generate_series(1, 5000) n;
    CREATE FUNCTION rests() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(1)';
    CREATE MATERIALIZED VIEW rested AS SELECT rests() WITH NO DATA;
    REFRESH MATERIALIZED VIEW rested;
"""


class Drilled:
    """A drill at work, seen from outside."""

    def __init__(self, lab: Lab, sockets: Path) -> None:
        self.lab, self._sockets = lab, sockets
        with lab.context():
            self.homes = drill_server._homes()

    def start(self, filename: str, **more: str) -> psutil.Popen:
        return self.lab.start("backup", "drill", filename, TMPDIR=str(self._sockets), **more)

    def folders(self) -> list[Path]:
        return [each for home in self.homes if home.exists() for each in home.iterdir()]

    def has(self, pattern: str) -> bool:
        return any(True for home in self.homes for _ in home.glob(f"*/{pattern}"))

    def phase(self) -> str:
        row = self.newest()
        return (row.progress or {}).get("phase", "") if row and row.is_pending else ""

    def newest(self) -> Restore | None:
        with self.lab.context():
            return next(iter(restores.list_restores(limit=1)), None)

    def log(self) -> str:
        with self.lab.context():
            (row,) = restores.list_restores(limit=1) or [None]
            return restores.get_restore(row.id).log or "" if row else ""

    def processes(self) -> list[psutil.Process]:
        """All that has to do with a server of a drill of this lab."""
        return [
            each
            for each in psutil.process_iter(["cmdline", "status"])
            if any(str(home) in " ".join(each.info["cmdline"] or []) for home in self.homes)
            and each.info["status"] != psutil.STATUS_ZOMBIE
        ]

    def left(self) -> list[str]:
        processes = [" ".join(each.info["cmdline"]) for each in self.processes()]
        return [*map(str, self.folders()), *map(str, self._sockets.iterdir()), *processes]


#: Each step of a drill, and how it is seen.
STEPS: dict[str, Callable[[Drilled], bool]] = {
    "its folder is made": lambda drill: bool(drill.folders()),
    "its socket's folder is noted": lambda drill: drill.has("sockets"),
    "initdb has begun": lambda drill: drill.has("cluster/data"),
    "initdb is at work": lambda drill: drill.has("cluster/data/base/1"),
    "the server starts": lambda drill: drill.has("cluster/data/postmaster.pid"),
    "the server is ready": lambda drill: drill.phase() == "loading",
    "the dump is loaded": lambda drill: "MATERIALIZED VIEW DATA" in drill.log(),
    "it is compared": lambda drill: drill.phase() in ("comparing", "asserting"),
}


@pytest.fixture(scope="module")
def drill(make_lab: Callable[..., Lab]) -> Iterator[Drilled]:
    sockets = Path(tempfile.mkdtemp(prefix="bt-", dir="/tmp"))
    sockets.chmod(0o711)
    lab = make_lab(_SHOP)
    lab.make_backup()
    drilled = Drilled(lab, sockets)
    yield drilled
    shutil.rmtree(sockets)
    shutil.rmtree(drilled.homes[1].parent, ignore_errors=True)


@pytest.fixture(scope="module")
def without_bubblewrap(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which there is none."""
    folder = tmp_path_factory.mktemp("bin")
    for program in Path("/usr/bin").iterdir():
        if program.name != "bwrap":
            (folder / program.name).symlink_to(program)
    return {"PATH": f"{folder}:/bin-that-is-not-there"}


@pytest.mark.parametrize("step", STEPS)
def test_a_drill_whose_runner_is_killed_at_any_step_leaves_nothing(step: str, drill: Drilled):
    kill_at(step, drill)


@pytest.mark.parametrize("step", list(STEPS)[3:])
def test_nor_does_one_whose_server_does_not_end_with_it(
    step: str, drill: Drilled, without_bubblewrap: dict[str, str]
):
    kill_at(step, drill, **without_bubblewrap)


def kill_at(step: str, drill: Drilled, **environment: str) -> None:
    runner = drill.start(drill.lab.newest(), **environment)
    wait_until(lambda: STEPS[step](drill) or runner.poll() is not None, step, tick=0.002)
    assert runner.poll() is None, log_of(runner)
    runner.kill()
    runner.wait(PATIENCE)
    with drill.lab.context():
        reconcile()
        row = drill.newest()
        assert row.status is Status.FAILED
        assert row.error_message == "the restore was interrupted"
        assert [proof.result for proof in proofs_of(row)] == [Result.PASSED]  # of the reading
    assert drill.left() == []


@pytest.mark.parametrize("step", ["initdb is at work", "the server starts", "the server is ready"])
def test_a_drill_whose_server_is_killed_is_not_possible_and_leaves_nothing(
    step: str, drill: Drilled
):
    runner = drill.start(drill.lab.make_backup())
    wait_until(lambda: STEPS[step](drill) or runner.poll() is not None, step, tick=0.002)
    for process in drill.processes():
        process.kill()
    assert runner.wait(PATIENCE) == 1, log_of(runner)
    assert drill.left() == []
    with drill.lab.context():
        row = drill.newest()
        assert row.status is Status.FAILED
        newest, *_ = proofs_of(row)
        assert newest.result is Result.NOT_POSSIBLE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drill_that_is_asked_to_end_leaves_nothing(number: signal.Signals, drill: Drilled):
    runner = drill.start(drill.lab.newest())
    wait_until(lambda: drill.phase() == "loading" or runner.poll() is not None, "it to load")
    runner.send_signal(number)
    assert runner.wait(PATIENCE) == 128 + number, log_of(runner)
    assert drill.left() == []


def proofs_of(row: Restore) -> list[Proof]:
    return proofs.list_proofs(backups.get_backup(row.filename).id)
