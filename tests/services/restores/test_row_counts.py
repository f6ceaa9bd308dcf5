"""What others do while a backup is made is never taken for a fault of the dump."""

import threading
from contextlib import closing

import psycopg2
import pytest

from app.models import Level, Proof, Result
from app.services.backups import run as backup_run
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from tests.conftest import Database
from tests.postgres.conftest import wait_until
from tests.services.restores.conftest import backed_up

pytestmark = pytest.mark.usefixtures("context")


def read_of(filename: str) -> Proof:
    (read,) = proofs.list_proofs(backups.get_backup(filename).id)
    assert read.level == Level.READ
    return read


def is_waiting(database: Database) -> bool:
    return database.run(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query LIKE 'LOCK TABLE%'"
    ) == [(1,)]


@pytest.mark.parametrize(
    "change", ["TRUNCATE orders", "ALTER TABLE orders ALTER total TYPE text", "DELETE FROM orders"]
)
def test_a_table_that_changes_before_pg_dump_has_it_is_counted_as_it_is_dumped(
    change: str, shop: Database
):
    """The backup waits for one table while another one is emptied."""
    with closing(psycopg2.connect(shop.url)) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE customers, orders IN ACCESS EXCLUSIVE MODE")

        def change_meanwhile() -> None:
            wait_until(lambda: is_waiting(shop), "the backup waits")
            cursor.execute(change)
            holder.commit()

        other = threading.Thread(target=change_meanwhile)
        other.start()
        filename = backed_up()
        other.join()
    assert read_of(filename).evidence["differences"] == []


def test_a_table_that_is_dropped_before_it_is_locked_is_in_no_dump(shop: Database):
    with closing(psycopg2.connect(shop.url)) as holder:
        with holder.cursor() as cursor:
            cursor.execute("DROP TABLE orders")

        def drop() -> None:
            wait_until(lambda: is_waiting(shop), "the backup waits")
            holder.commit()

        other = threading.Thread(target=drop)
        other.start()
        filename = backed_up()
        other.join()
    assert read_of(filename).evidence["differences"] == []
    assert [each["name"] for each in backups.get_backup(filename).contents["tables"]] == [
        "customers"
    ]


def test_counting_is_in_nobody_s_way(shop: Database, monkeypatch: pytest.MonkeyPatch):
    """Others lock and empty tables in a loop: no deadlock, no difference."""
    over = threading.Event()
    told: list[str] = []

    def change(at: int) -> None:
        while not over.is_set():
            for sql in (
                f"TRUNCATE busy_{at}, busy_{1 - at}",
                f"INSERT INTO busy_{at} SELECT generate_series(1, 100)",
                f"BEGIN; LOCK TABLE busy_{1 - at} IN ACCESS EXCLUSIVE MODE; COMMIT",
            ):
                try:
                    shop.run(sql)
                except psycopg2.errors.DeadlockDetected as error:
                    if "backstop" in str(error).lower():
                        told.append(str(error))
                except psycopg2.Error as error:
                    told.append(str(error))

    shop.run("CREATE TABLE busy_0 (n int); CREATE TABLE busy_1 (n int)")
    threads = [threading.Thread(target=change, args=(at,)) for at in (0, 1)]
    for each in threads:
        each.start()
    try:
        for _ in range(5):
            assert read_of(backed_up()).evidence["differences"] == []
    finally:
        over.set()
        for each in threads:
            each.join()
    assert told == []


def test_a_row_that_is_missing_in_the_dump_is_told_loudly(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    real = backup_run.prove_rows

    def prove_rows(contents: dict, counted: dict, *others: object, **more: object) -> dict:
        for table in contents["tables"]:
            if table["name"] == "orders":
                counted = counted | {table["oid"]: 501}
        return real(contents, counted, *others, **more)

    monkeypatch.setattr(backup_run, "prove_rows", prove_rows)
    filename = backed_up()
    read = read_of(filename)
    assert read.result is Result.FAILED
    assert read.evidence["differences"] == ["rows of public.orders: 501 counted, 500 in the dump"]
    assert backups.get_backup(filename).is_completed


def test_an_extension_s_own_rows_are_not_missed(shop: Database):
    """Of its tables pg_dump writes what the users have added (PostGIS: spatial_ref_sys)."""
    shop.run("CREATE EXTENSION pg_trgm")
    shop.run("CREATE TABLE known AS SELECT n FROM generate_series(1, 101) n")
    shop.run("ALTER EXTENSION pg_trgm ADD TABLE known")
    shop.run(
        "SET allow_system_table_mods = on; UPDATE pg_extension SET"
        " extconfig = ARRAY['known'::regclass::oid], extcondition = ARRAY['WHERE n > 100']"
        " WHERE extname = 'pg_trgm'"
    )
    made = backups.get_backup(backed_up())
    assert read_of(made.filename).evidence["differences"] == []
    tables = {each["name"]: each["rows"] for each in made.contents["tables"]}
    assert tables["known"] == 101  # as they will be after CREATE EXTENSION and the restore
