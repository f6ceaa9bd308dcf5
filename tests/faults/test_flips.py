"""Every flipped bit and every cut of a dump, a manifest or a row is found by flask backup check."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from app.extensions import writing
from app.models import DatabaseBackup
from app.models.backup import filename_of
from app.schemas.jobs import backup_row
from app.services.backups.manifests import build_manifest
from tests.faults.lab import SEED, Lab, chance

pytestmark = pytest.mark.faults

FLIPS = int(os.environ.get("FAULTS_FLIPS") or 1000)  # half of them cuts
_A_ROUND = 250

#: What the manifest tells too, and so can give back.
TOLD = {
    "id": "'other' || substr(id, 6)",
    "size": "size + 1",
    "sha256": "substr(sha256, 2) || 'x'",
    "oldest_reader": "oldest_reader + 1",
    "server": "server || 'x'",
    "database": "'other'",
    "server_version": "'9.6'",
    "tool_version": "'9.6'",
    "compression": "'none'",
    "status": "CASE WHEN size % 2 THEN 'FAILED' ELSE 'COMPLETEE' END",
    "database_size": "database_size + 1",
    "contents": "'{}'",
    "trigger": "'schedule'",
    "created_by": "'somebody else'",
    "created_at": "datetime(created_at, '-1 day')",
    "started_at": "datetime(started_at, '-1 day')",
    "finished_at": "datetime(finished_at, '+1 day')",
    "notes": "'other notes'",
}


@pytest.fixture(scope="module")
def original(lab: Lab) -> str:
    return lab.make_backup("the original")


def plant(lab: Lab, original: str, count: int) -> list[str]:
    """Copies of a backup under names of their own, each with its manifest and its row."""
    with lab.context():
        row = DatabaseBackup(**vars_of(lab.rows()[original]))
    names = []
    with lab.context(), writing() as session:
        for number in range(count):
            copy = DatabaseBackup(**vars_of(row))
            copy.id = f"copy{number:020d}"
            copy.created_at = row.created_at - timedelta(days=1, seconds=number)
            copy.filename = filename_of(copy.created_at)
            manifest = build_manifest(copy)
            dump = lab.backups / copy.filename
            shutil.copy(lab.backups / original, dump)
            dump.with_name(f"{dump.name}.json").write_bytes(manifest)
            session.add(copy)
            names.append(copy.filename)
    return names


def vars_of(row: DatabaseBackup) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}


def uproot(lab: Lab, names: list[str]) -> None:
    with lab.context(), writing() as session:
        session.execute(delete(DatabaseBackup).where(DatabaseBackup.filename.in_(names)))
    for name in names:
        for path in (lab.backups / name, lab.backups / f"{name}.json"):
            path.unlink(missing_ok=True)


def flip(path: Path, dice: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place, bit = dice.randrange(len(content)), dice.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} flipped in {path.suffix}"


def cut(path: Path, dice: random.Random) -> str:
    content = path.read_bytes()
    left = dice.randrange(len(content))
    path.write_bytes(content[:left])
    return f"{path.suffix} cut from {len(content)} to {left} bytes"


def findings(lab: Lab) -> tuple[int, dict[str, str]]:
    """What flask backup check ends with, and what it says of each backup."""
    checked = lab.flask("backup", "check")
    assert "Traceback" not in checked.stderr
    lines = [line.partition("\t") for line in checked.stdout.splitlines()]
    return checked.returncode, {name: finding for name, _, finding in lines}


@pytest.mark.parametrize("turn", range(-(-FLIPS // _A_ROUND)))
def test_every_flipped_bit_and_every_cut_is_found(
    lab: Lab, original: str, turn: int, record_property: Callable[[str, str], None]
):
    dice = chance("flips", turn)
    names = plant(lab, original, min(_A_ROUND, FLIPS - turn * _A_ROUND))
    done = {}
    for number, name in enumerate(names):
        path = lab.backups / (name if dice.random() < 0.5 else f"{name}.json")
        done[name] = (flip, cut)[number % 2](path, dice)
    status, found = findings(lab)
    missed = {name: what for name, what in done.items() if found.get(name, "whole") == "whole"}
    assert not missed, f"FAULTS_SEED={SEED}: {missed}"
    assert found[original] == "whole"
    assert status == 1
    uproot(lab, names)
    record_property("faults", f"{FLIPS} flipped bits and cuts, each found")


def change(lab: Lab, filename: str, column: str) -> None:
    """Damage one field behind the panel's back."""
    with closing(sqlite3.connect(lab.settings.instance_dir / "catalogue.db")) as catalogue:
        changed = catalogue.execute(
            f"UPDATE database_backups SET {column} = {TOLD[column]} WHERE filename = ?", [filename]
        )
        assert changed.rowcount == 1
        catalogue.commit()


def told(lab: Lab) -> dict[str, Any]:
    with lab.context():
        return {name: backup_row(row) for name, row in lab.rows().items()}


def test_every_damaged_field_of_a_row_is_found_and_given_back(lab: Lab, original: str):
    dice = chance("rows")
    names = plant(lab, original, 2 * len(TOLD))
    before = told(lab)
    for name, column in zip(names, 2 * list(TOLD), strict=True):
        change(lab, name, column)
        for also in dice.sample(list(TOLD), dice.choice([0, 0, 1, 3])):
            if also != column:
                change(lab, name, also)
    status, found = findings(lab)
    missed = [
        column
        for name, column in zip(names, 2 * list(TOLD), strict=True)
        if found.get(name, "whole") == "whole"
    ]
    assert not missed, f"FAULTS_SEED={SEED}"
    assert status == 1
    assert found[original] == "whole"
    rebuilt = lab.flask("backup", "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    after = told(lab)
    wrong = {
        f"{name} {key}: {value!r}, not {before[name][key]!r}"
        for name, row in after.items()
        for key, value in row.items()
        # Planted rows have no proof of their own; that of the manifest is written down.
        if key != "proof" and value != before[name][key]
    }
    assert not wrong, f"FAULTS_SEED={SEED}"
    assert after.keys() == before.keys()
    assert findings(lab)[0] == 0
    uproot(lab, names)
    lab.check()
