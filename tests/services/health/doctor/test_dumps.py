"""Dumps, and the room for more."""

import os
from datetime import timedelta

import pytest

from app.config import settings as current_settings
from app.models import Status
from app.models.types import now
from app.services.health.doctor import Finding, State, dumps
from app.services.health.growth import Growth
from tests.conftest import on_catalogues
from tests.services.health.doctor.conftest import OK, PROBLEM, WARNING, found, make, plant

pytestmark = pytest.mark.usefixtures("context")

GIB = 1 << 30


@on_catalogues("sqlite", "postgresql")
def test_no_backup_is_a_warning():
    line = found("newest backup")
    assert line.state is WARNING
    assert "flask backup create" in line.hint


@on_catalogues("sqlite", "postgresql")
def test_the_newest_backup_is_told_with_its_age():
    backup = make()
    line = found("newest backup")
    assert line.state is OK
    assert line.told.startswith(f"{backup.filename}, ")


def test_dumps_that_are_there_are_counted():
    make()
    make()
    assert found("dumps") == Finding("dumps", OK, "those of all completed backups are there (2)")


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_dump_that_is_gone_or_cut_is_a_problem(damage: str):
    bad, good = make().filename, make().filename
    dump = current_settings().backup_dir / bad
    if damage == "gone":
        dump.unlink()
    else:
        dump.write_bytes(dump.read_bytes()[:-1])
    line = found("dumps")
    assert line.state is PROBLEM
    assert "of 2 completed backups 1 are missing" in line.told
    assert bad in line.told
    assert good not in line.told


@on_catalogues("sqlite", "postgresql")
def test_many_missing_dumps_are_five_names_and_a_number():
    for n in range(8):
        plant(timedelta(hours=n), 1)
    assert found("dumps").told.endswith(" and 3 more")


def test_a_dump_that_no_row_knows_is_a_warning():
    make()
    stray = current_settings().backup_dir / "backup_2001-01-01T00-00-00-000Z.dump"
    stray.write_bytes(b"PGDMP")
    line = found("dumps")
    assert line.state is WARNING
    assert stray.name in line.told
    assert "reconcile --adopt" in line.hint


@on_catalogues("sqlite", "postgresql")
def test_pending_and_failed_backups_have_no_dump_to_miss():
    plant(timedelta(hours=1), 0, status=Status.FAILED)
    plant(timedelta(hours=2), 0, status=Status.PENDING)
    assert found("dumps").state is OK


# Space


def test_free_space_is_told_from_the_disk():
    about = os.statvfs(current_settings().instance_dir)
    assert found("free space").state is OK
    free = dumps.storage().free_space()
    assert abs(free - about.f_bavail * about.f_frsize) < GIB


@on_catalogues("sqlite", "postgresql")
def test_the_next_backup_has_to_fit():
    plant(timedelta(days=400), 1 << 60)
    line = found("free space")
    assert line.state is PROBLEM
    assert "a backup takes 1.0 EiB, so the next one does not fit" in line.told
    assert line.hint


@on_catalogues("sqlite", "postgresql")
def test_the_disk_of_a_machine_that_backs_up_much_is_soon_full():
    free = dumps.storage().free_space()
    for n in range(10):
        plant(timedelta(days=n, minutes=1), free // 50)
    line = found("free space")
    assert line.state is OK
    assert "a day the disk is full in " in line.told


@pytest.mark.parametrize(
    ("free", "ages", "state", "part"),
    [
        (100 * GIB, [], OK, "100.0 GiB free"),
        (100 * GIB, [0], OK, "at 1.0 GiB a day the disk is full in 100 days"),
        (100 * GIB, [0, 1, 2, 3, 4], OK, "at 1.2 GiB a day the disk is full in 80 days"),
        (6.9 * GIB, [0], WARNING, "full in 7 days"),
        (7.1 * GIB, [0], OK, "full in 7 days"),
        (2.9 * GIB, [0, 10, 29], WARNING, "full in 28 days"),
        (2.9 * GIB, [200], WARNING, "2.9 GiB free; a backup takes 1.0 GiB"),
        (3.1 * GIB, [200], OK, "3.1 GiB free; a backup takes 1.0 GiB"),
        (3.1 * GIB, [29], OK, "full in 90 days"),
        (0.9 * GIB, [200], PROBLEM, "so the next one does not fit"),
        (1e9 * GIB, [0], OK, "a backup takes 1.0 GiB"),
    ],
)
def test_the_trend_is_that_of_the_last_month(free: float, ages: list[int], state: State, part: str):
    recent = [now() - timedelta(days=age) for age in ages if age < 30]
    growth = Growth(len(ages) * GIB, len(recent) * GIB, min(recent, default=None))
    line = dumps._foreseen(int(free), GIB if ages else None, growth)
    assert line.state is state
    assert part in line.told
    assert ("a day" in line.told) is ("full in" in part)
