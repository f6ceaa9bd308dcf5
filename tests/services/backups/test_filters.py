"""The list of backups, narrowed and in another order."""

from datetime import timedelta

import pytest

from app.errors import InvalidInput, NotFound
from app.models import Level, Loss, Result, Status, Trigger
from app.services.backups.filters import Order, read_filters
from app.services.backups.listing import list_backups, sizes_before
from tests.services.health.test_figures import START, keep, plant, prove

pytestmark = pytest.mark.usefixtures("context")


def listed(**query: str) -> list[int]:
    """The sizes of the backups, which tell them apart, in the order of the list."""
    filters, order = read_filters(query)
    return [backup.size for backup in list_backups(filters, order=order).backups]


def test_the_proof_tells_restored_read_failed_and_unproven_apart():
    restored, read, refuted, failed, _ = (plant(day, size=day) for day in range(1, 6))
    for backup_id in (restored, read, refuted, failed):
        prove(backup_id, 6, Level.READ)
    prove(restored, 7, Level.RESTORED)
    prove(refuted, 7, Level.READ, Result.FAILED)
    prove(refuted, 8, Level.RESTORED)
    prove(failed, 8, Level.RESTORED)
    prove(failed, 9, Level.CHECKSUM, Result.FAILED)
    plant(6, size=6, status=Status.FAILED)
    assert listed(proof="restored") == [3, 1]
    assert listed(proof="read") == [2]
    assert listed(proof="failed") == [4]
    assert listed(proof="not") == [5]


def test_a_backup_lacks_a_copy_if_no_store_has_a_good_one():
    copied, lost, _ = (plant(day, size=day) for day in (1, 2, 3))
    plant(4, size=4, status=Status.FAILED)
    keep("nas", 1, backup_id=copied)
    keep("nas", 2, backup_id=lost, loss=Loss.MISSING)
    assert listed(copy="missing") == [3, 2]


def test_each_filter_lets_its_own_backups_pass():
    plant(1, size=1, trigger=Trigger.API)
    plant(2, size=2, database="crm")
    plant(3, size=3, pinned_at=START)
    plant(4, size=4, notes="before the migration")
    assert listed(trigger="api") == [1]
    assert listed(pinned="yes") == [3]
    assert listed(q="MIGRATION") == [4]
    day = (START + timedelta(days=2)).date().isoformat()
    assert listed(**{"from": day}) == [4, 3, 2]
    assert listed(**{"from": day, "to": day}) == [2]
    assert listed(trigger="api", pinned="yes") == []


@pytest.mark.parametrize(
    ("sort", "sizes"),
    [("newest", [7, 1, 9, 9, 5]), ("oldest", [5, 9, 9, 1, 7]), ("largest", [9, 9, 7, 5, 1])],
)
def test_every_order_pages_through_all_of_them_once(sort: str, sizes: list[int]):
    for day, size in enumerate((5, 9, 9, 1, 7)):
        plant(day, size=size)
    seen, before, order = [], None, Order(sort)
    while True:
        page = list_backups(limit=2, before=before, order=order)
        seen += [backup.size for backup in page.backups]
        if (before := page.next_before) is None:
            break
    assert seen == sizes


@pytest.mark.parametrize(
    "query",
    [
        {"status": "completed"},
        {"proof": "x"},
        {"pinned": "no"},
        {"copy": "1"},
        {"sort": "size"},
        {"trigger": "cron"},
        {"from": "yesterday"},
        {"to": "9999-12-31"},
    ],
)
def test_a_filter_that_is_invalid_is_named(query: dict[str, str]):
    (name,) = query
    with pytest.raises(InvalidInput, match=f"^{name} "):
        read_filters(query)


def test_an_unknown_database_is_refused():
    with pytest.raises(NotFound):
        read_filters({"database": "nonsense"})


@pytest.mark.parametrize("before", ["2026-11-23T12:00:00Z~a", "x~a", "~a"])
def test_a_cursor_of_another_order_is_refused(before: str):
    with pytest.raises(InvalidInput, match="before is not a cursor"):
        list_backups(before=before, order=Order.LARGEST)


def test_a_cursor_beyond_all_sizes_is_before_the_largest():
    plant(1)
    assert len(list_backups(before=f"{'9' * 5000}~a", order=Order.LARGEST).backups) == 1


def test_a_size_is_compared_with_the_full_backup_before_of_the_same_database():
    first = plant(1, size=100)
    plant(2, size=7, is_partial=True)
    plant(3, size=0, status=Status.FAILED)
    plant(4, size=9, database="crm")
    later = plant(5, size=150)
    before = sizes_before(list_backups().backups)
    assert before[later] == 100
    assert first not in before
    assert len(before) == 1
