"""flask backup check finds what is not what it was."""

import pytest

from app.config import settings as current_settings
from app.models import DatabaseBackup, Trigger
from app.services import backups
from app.services.checks import Verdict, check_backups

pytestmark = pytest.mark.usefixtures("context")


def make() -> DatabaseBackup:
    return backups.create_backup(trigger=Trigger.CLI, created_by="tester")


def test_whole_dumps_are_good():
    made = [make().filename, make().filename]
    assert [(each.filename, each.is_good) for each in check_backups()] == [
        (name, True) for name in made
    ]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest gone", "manifest flipped"])
def test_each_damage_is_found_and_the_others_stay_good(damage: str):
    bad, good = make(), make()
    dump = current_settings().backup_dir / bad.filename
    manifest = dump.with_name(f"{dump.name}.json")
    content = bytearray(dump.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        dump.write_bytes(content)
    elif damage == "cut":
        dump.write_bytes(content[:-1])
    elif damage == "gone":
        dump.unlink()
    elif damage == "manifest gone":
        manifest.unlink()
    else:
        manifest.write_bytes(
            manifest.read_bytes().replace(b"customer", b"x").replace(b"a", b"b", 1)
        )
    results = {each.filename: each.is_good for each in check_backups()}
    assert results == {bad.filename: False, good.filename: True}


def test_a_dump_that_no_row_knows_is_told():
    good = make()
    unknown = current_settings().backup_dir / "backup_2001-01-01T00-00-00-000Z.dump"
    unknown.write_bytes(b"PGDMP")
    found = {each.filename: each.verdict for each in check_backups()}
    assert found == {good.filename: Verdict.WHOLE, unknown.name: Verdict.UNKNOWN}
