"""Upgrades of the catalogue that are killed in the middle, or find the disk full."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask

from app.config import ROOT
from app.errors import ConfigurationError
from app.extensions import db
from app.services.catalogue.state import find_revisions, prepare_catalogue
from tests.faults.lab import SEED, chance
from tests.faults.test_disk import fill, only_root, small_disk
from tests.migrations.conftest import kind, old_catalogue
from tests.migrations.planting import all_rows, assert_kept

__all__ = ["kind", "old_catalogue"]  # fixtures

pytestmark = pytest.mark.faults

KILLS = 5
SCRIPT = Path(__file__).with_name("upgrading.py")


class Upgrader:
    """Upgrades the catalogue of an application in another process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def upgrade(self, app: Flask, step: int) -> str:
        settings = app.extensions["backstop.settings"]
        order = {"folder": str(settings.instance_dir.parent), "step": step}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(order | {"url": settings.catalogue_url}), file=self.process.stdin)
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def upgrader() -> Iterator[Upgrader]:
    words = [sys.executable, str(SCRIPT)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        yield Upgrader(process)
        assert process.stdin is not None
        process.stdin.close()


def test_an_upgrade_that_is_killed_leaves_the_old_catalogue_or_the_new_one(
    old_catalogue: Callable[[str], Flask], upgrader: Upgrader, kind: str
):
    last = int(upgrader.upgrade(old_catalogue("0006"), 0))
    dice = chance(f"upgrades {kind}")
    # The commit is the last but one: before it, all is old, and after it, all is new.
    steps = [last - 1, last, *dice.sample(range(1, last - 1), KILLS)]
    for step in steps:
        forget()
        app = old_catalogue("0006")
        before = all_rows()
        forget()
        assert upgrader.upgrade(app, step) == "killed", f"step {step}, FAULTS_SEED={SEED}"
        current, known = find_revisions()
        told = f"killed at {step} of {last}, FAULTS_SEED={SEED}"
        assert current == (known[0] if step == last else "0006"), told
        if current == "0006":
            assert all_rows() == before, told
        prepare_catalogue()
        assert find_revisions()[0] == known[0]
        assert_kept(before, all_rows())


def forget() -> None:
    db.session.remove()
    db.engine.dispose()


@contextmanager
def on_a_small_disk(make: Callable[[str], Flask], folder: Path) -> Iterator[int]:
    """A catalogue of 4 MiB on a disk of 64 MiB; gives its size."""
    with small_disk(folder):
        make("0006")
        with db.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE database_backups SET log = hex(randomblob(700000))")
        with db.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        yield (folder / "catalogue.db").stat().st_size
        forget()


@only_root
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("room", ["for the copy alone", "for nothing"])
def test_an_upgrade_on_a_full_disk_says_so_and_changes_nothing(
    old_catalogue: Callable[[str], Flask], tmp_path: Path, room: str
):
    instance = tmp_path / "instance"
    with on_a_small_disk(old_catalogue, instance) as size:
        before = all_rows()
        filler = fill(instance, but=1024**2 + (size if room == "for the copy alone" else 0))
        with pytest.raises(ConfigurationError) as refused:
            prepare_catalogue()
        assert "disk is full" in f"{refused.value.message} {refused.value.detail}"
        assert "space" in refused.value.hint
        assert all_rows() == before
        assert list(instance.glob("*.partial")) == []
        filler.unlink()
        prepare_catalogue()
        assert_kept(before, all_rows())
