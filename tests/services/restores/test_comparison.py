"""What has changed from one backup to another."""

from datetime import timedelta

import pytest

from app.errors import DumpError, InvalidInput, NotFound
from app.extensions import writing
from app.models import Status
from app.models.backup import filename_of
from app.services.backups.listing import get_backup
from app.services.databases.configured import storage
from app.services.restores.comparison import Change, Size, compare_backups, list_earlier
from tests.conftest import Database
from tests.services.health.test_figures import START, plant
from tests.services.restores.conftest import backed_up

pytestmark = pytest.mark.usefixtures("context")


def planted(days: float, **contents: tuple[int | None, int | None]) -> str:
    """A backup without a dump that counted so many rows and bytes; its name."""
    tables = [
        {"schema": "public", "name": name, "rows": rows, "bytes": size}
        for name, (rows, size) in contents.items()
    ]
    plant(days, contents={"tables": tables})
    return filename_of(START + timedelta(days=days))


def test_tables_and_objects_that_changed_are_named(shop: Database):
    earlier = backed_up()
    shop.run(
        """
        DELETE FROM orders WHERE id > 490;
        CREATE TABLE carts (id int PRIMARY KEY, note text);
        INSERT INTO carts VALUES (1, 'one');
        CREATE INDEX orders_later ON orders (id DESC);
        CREATE FUNCTION price() RETURNS int LANGUAGE sql AS 'SELECT 1';
        ALTER TABLE customers ADD COLUMN nick text;
        """
    )
    middle = backed_up()
    shop.run("CREATE OR REPLACE FUNCTION price() RETURNS int LANGUAGE sql AS 'SELECT 2'")
    shop.run("DROP INDEX orders_later")
    latest = backed_up()

    comparison = compare_backups(middle)
    assert comparison.earlier.filename == earlier
    tables = {table.name: table for table in comparison.tables.first}
    assert comparison.tables.first[0].name == "orders"
    assert (tables["orders"].before.rows, tables["orders"].now.rows) == (500, 490)
    assert tables["carts"].change is Change.ADDED
    assert (tables["carts"].before, tables["carts"].now.rows) == (Size(None, None), 1)
    assert comparison.objects is not None
    objects = {(changed.kind, changed.name): changed.change for changed in comparison.objects.first}
    assert objects["TABLE", "carts"] is Change.ADDED
    assert objects["CONSTRAINT", "carts carts_pkey"] is Change.ADDED
    assert objects["INDEX", "orders_later"] is Change.ADDED
    assert objects["TABLE", "customers"] is Change.CHANGED
    assert ("TABLE", "orders") not in objects

    comparison = compare_backups(latest, middle)
    assert comparison.tables.total == 0
    assert comparison.objects is not None
    assert [
        (changed.kind, changed.name, changed.change) for changed in comparison.objects.first
    ] == [
        ("FUNCTION", "price()", Change.CHANGED),
        ("INDEX", "orders_later", Change.REMOVED),
    ]
    assert compare_backups(latest, earlier).tables.total == len(tables)


def test_two_backups_of_the_same_state_do_not_differ(shop: Database):
    first, second = backed_up(), backed_up()
    comparison = compare_backups(second)
    assert comparison.earlier.filename == first
    assert (comparison.tables.total, comparison.objects and comparison.objects.total) == (0, 0)


def test_without_its_dump_only_the_tables_of_a_backup_are_compared():
    planted(1, orders=(10, 100), gone=(5, 50), same=(1, 1), uncounted=(None, None))
    later = planted(2, orders=(90, 900), fresh=(7, 70), same=(1, 1), uncounted=(None, None))
    comparison = compare_backups(later)
    assert comparison.objects is None
    assert [(table.name, table.change) for table in comparison.tables.first] == [
        ("orders", Change.CHANGED),
        ("fresh", Change.ADDED),
        ("gone", Change.REMOVED),
    ]


def test_the_last_full_backup_before_it_is_the_one_to_compare_with():
    first = planted(1)
    plant(2, is_partial=True)
    plant(3, database="crm")
    last = planted(4)
    assert list_earlier(get_backup(last)) == [first]


def test_what_cannot_be_compared_is_refused():
    first = planted(1)
    with pytest.raises(InvalidInput, match="no earlier backup to compare with"):
        compare_backups(first)
    with pytest.raises(NotFound):
        compare_backups(first, "backup_2001-01-01T00-00-00-000Z.dump")
    with pytest.raises(NotFound):
        compare_backups(first, "../../etc/passwd")
    plant(5, status=Status.FAILED)
    with pytest.raises(InvalidInput, match="is not completed"):
        compare_backups(filename_of(START + timedelta(days=5)))


def test_an_import_has_no_earlier_backup():
    imported = planted(2)
    with writing() as session:
        for name in (planted(1), imported):
            session.merge(get_backup(name)).database_id = None
    assert list_earlier(get_backup(imported)) == []


def test_a_dump_that_is_damaged_is_an_error_and_no_change(shop: Database):
    backed_up()
    later = backed_up()
    path = storage().folder / later
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DumpError, match="not an archive"):
        compare_backups(later)
