"""What the tests of drills share: a folder for their sockets, and what may be left of them."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.models import Proof
from app.postgres.throwaway import sandbox
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from app.services.restores import drill_server
from tests.servers import leave_out


@pytest.fixture(autouse=True)
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sockets of drills lie meanwhile, for this test alone."""
    assert tmp_path.is_dir()  # made in the usual place, before it changes
    folder = Path(tempfile.mkdtemp(prefix="bt-", dir="/tmp"))
    folder.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def left_of_drills(sockets: Path) -> Callable[[], list[str]]:
    """Ask for what drills have left on this machine: folders, sockets, processes."""

    def ask() -> list[str]:
        processes = [
            " ".join(words)
            for each in psutil.process_iter(["cmdline"])
            if f"{sockets}/backstop-drill-" in " ".join(words := each.info["cmdline"] or [])
        ]
        folders = [*drill_server.leftovers(), *sockets.glob("backstop-drill-*")]
        return [*map(str, folders), *processes]

    return ask


@pytest.fixture
def isolated() -> None:
    """Bubblewrap works here; without it a test is skipped, but not in CI."""
    if sandbox.find_sandbox().isolation is sandbox.Isolation.BUBBLEWRAP:
        return
    leave_out("bubblewrap does not work here")


def newest_proof(filename: str) -> Proof:
    return proofs.list_proofs(backups.get_backup(filename).id)[0]
