"""What is written while a backup is made never shows as a difference; what is missing does."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import pytest

from app.models import Kind, Level, Result, Status
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from app.services.restores import run as running
from tests.conftest import Database
from tests.postgres.conftest import wait_until
from tests.services.restores.conftest import attempt, backed_up, restored

pytestmark = pytest.mark.usefixtures("context")


@contextmanager
def writer(database: Database) -> Iterator[list[int]]:
    """Somebody who inserts, updates and deletes in a loop, several rows at a time."""
    rounds: list[int] = []
    over = threading.Event()

    def write() -> None:
        connection = psycopg2.connect(database.url)
        with connection.cursor() as cursor:
            for at in itertools.count(1000, 10):
                if over.is_set():
                    break
                cursor.execute(
                    "INSERT INTO customers SELECT n, 'new' FROM generate_series(%s, %s) n;"
                    "INSERT INTO orders SELECT n, n, 1 FROM generate_series(%s, %s) n;"
                    "UPDATE orders SET total = total + 1 WHERE id < 100;"
                    "DELETE FROM orders WHERE id = %s; SELECT nextval('written')",
                    (at, at + 9, at, at + 9, at - 7),
                )
                connection.commit()
                rounds.append(at)
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_until(lambda: len(rounds) > 2, "it writes")
        yield rounds
    finally:
        over.set()
        thread.join()


def test_a_backup_made_while_others_write_is_restored_without_a_difference(living: Database):
    living.run("CREATE SEQUENCE written")
    with writer(living) as rounds:
        before = len(rounds)
        filename = backed_up()
        assert len(rounds) > before, "nothing was written meanwhile"
        drill = restored(filename, Kind.DRILL)
        beside = restored(filename, Kind.BESIDE)
    assert drill.result["differences"] == beside.result["differences"] == []
    assert drill.result["rows"] == beside.result["rows"] > 550
    copy = Database(beside.database, living.url.replace(living.name, beside.database))
    # All that one transaction wrote is there, or nothing of it.
    partly = "SELECT count(*) FROM customers WHERE id >= 1000 HAVING count(*) % 10 <> 0"
    assert copy.run(partly) == []


def test_a_row_that_is_deleted_by_hand_fails_the_drill_and_names_its_table(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    filename = backed_up()
    real = running.Loader.load_all

    def load_all(self: running.Loader, apart: object, role: Conninfo, admin: Conninfo) -> None:
        real(self, apart, role, admin)
        name = admin.parameters["dbname"]
        Database(name, shop.url.replace(shop.name, name)).run("DELETE FROM orders WHERE id = 77")

    monkeypatch.setattr(running.Loader, "load_all", load_all)
    row = attempt(filename, Kind.DRILL)
    assert row.status is Status.FAILED
    told = "rows of public.orders: 500 expected, 499 found"
    assert row.error_detail == told
    newest = proofs.list_proofs(backups.get_backup(filename).id)[0]
    assert (newest.level, newest.result) == (Level.RESTORED, Result.FAILED)
    assert newest.evidence["differences"] == [told]
