"""3-2-1 at a glance: where the newest good backup of each database is, and how far proven."""

from datetime import timedelta

import pytest

from app.models import Level, Loss, Result, Status
from app.models.backup import filename_of
from app.services.copies.places import GoodCopy, Spread
from app.services.databases.configured import storage
from app.services.health.overview import read_overview, read_row
from tests.services.health.test_figures import START, counting, keep, plant, prove

pytestmark = pytest.mark.usefixtures("context")


def here(days: float) -> str:
    """The name of the backup of that day, whose dump is here."""
    name = filename_of(START + timedelta(days=days))
    storage().folder.mkdir(exist_ok=True)
    (storage().folder / name).touch()
    return name


def spread_of(name: str = "shop") -> Spread | None:
    return read_row(name).spread


def test_without_a_good_backup_there_is_nothing_to_spread():
    plant(1)
    assert spread_of() is None


def test_the_dump_here_is_one_copy_as_far_as_it_is_proven():
    newest = plant(1)
    name = here(1)
    assert spread_of() == Spread(name, (GoodCopy("", "", None, None),))
    prove(newest, 2, Level.READ)
    prove(newest, 3, Level.RESTORED)
    spread = spread_of()
    assert spread is not None
    assert (spread.in_short, spread.in_words()) == ("1 copy in 1 place", "here (restored)")
    assert spread.copies[0].proven_at == START + timedelta(days=3)


def test_good_copies_count_and_two_in_one_bucket_are_one_place():
    plant(1), plant(2)
    here(1), here(2)
    keep("nas", 2, address="file:///mnt/nas", verified_at=START)
    keep("offsite", 2, address="s3://bucket/a?region=eu-central-1")
    keep("again", 2, address="s3://bucket/b?region=eu-central-1")
    keep("lost", 2, address="s3://lost/a", loss=Loss.DAMAGED)
    keep("failed", 2, address="s3://failed/a", status=Status.FAILED)
    keep("older", 1, address="s3://older/a")
    spread = spread_of()
    assert spread is not None
    assert spread.in_short == "4 copies in 3 places"
    assert spread.in_words() == (
        "here (not read back), again (not read back), nas (read back), offsite (not read back)"
    )
    assert spread.copies[2] == GoodCopy("nas", "file:///mnt/nas", Level.READ, START)


def test_a_backup_that_is_damaged_is_not_the_one_that_counts():
    plant(1)
    good = here(1)
    prove(plant(2), 3, Level.READ, Result.FAILED)
    here(2)
    keep("nas", 2, address="file:///mnt/nas")
    assert spread_of() == Spread(good, (GoodCopy("", "", None, None),))


def test_many_databases_and_stores_take_as_many_statements_as_one():
    def cost() -> int:
        with counting() as statements:
            read_overview()
        return len(statements)

    plant(1)
    here(1)
    keep("nas", 1, address="file:///mnt/nas")
    few = cost()
    for number in range(20):
        day = 2 + number / 10
        plant(day, f"shop_{number}")
        here(day)
        keep(f"s{number}", day, address=f"s3://bucket{number}/a")
    assert cost() == few
