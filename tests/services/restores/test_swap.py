"""The living database is replaced wholly or not at all, whoever is connected to it."""

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import psycopg2
import pytest

from app.errors import Conflict, PostgresError
from app.models import Kind, Status, Trigger
from app.postgres.conninfo import parse_url
from app.postgres.locking import hold_lock
from app.services.backups import service as backups
from app.services.databases.configured import storage
from app.services.restores import run as running
from app.services.restores import service as restores
from app.services.restores import swap
from tests.conftest import Database, url_of
from tests.postgres.conftest import wait_until
from tests.servers import toolchain
from tests.services.restores.conftest import attempt, backed_up, restored

pytestmark = pytest.mark.usefixtures("context")

CLIENTS = 60


def oid_of(database: Database) -> int:
    return database.run("SELECT oid FROM pg_database WHERE datname = current_database()")[0][0]


@contextmanager
def clients(database: Database) -> Iterator[list[float]]:
    """Many that read, and connect again at once when they are thrown out; when each has read."""
    read: list[float] = []
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            with (
                suppress(psycopg2.Error),
                closing(psycopg2.connect(database.url)) as connection,
                connection.cursor() as cursor,
            ):
                while not over.is_set():
                    cursor.execute("SELECT count(*) FROM customers")
                    read.append(time.monotonic())
                    over.wait(0.05)

    threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
    for each in threads:
        each.start()
    try:
        wait_until(lambda: len(read) > CLIENTS, "all clients have read")
        yield read
    finally:
        over.set()
        for each in threads:
            each.join()


def test_a_database_with_sixty_clients_is_replaced(living: Database, leftovers):
    filename = backed_up()
    living.run("DELETE FROM orders")
    with clients(living) as read:
        row = restored(filename, Kind.REPLACE)
        swapped = time.monotonic()
        wait_until(lambda: read[-1] > swapped, "clients read again")
    gaps = [after - before for before, after in itertools.pairwise(read)]
    print(f"away {row.result['awaySeconds']} s, longest without a read {max(gaps):.3f} s")
    assert row.result["awaySeconds"] > 0
    assert living.run("SELECT count(*) FROM orders") == [(500,)]
    assert leftovers() == []
    safety = backups.get_backup(row.safety_backup)
    assert safety.is_completed
    assert "Before the restore of" in safety.notes


def test_an_undo_is_made_once(living: Database):
    filename = backed_up()
    living.run("DELETE FROM orders")
    before = oid_of(living)
    row = restored(filename, Kind.REPLACE)
    assert oid_of(living) != before
    restores.undo_restore(row.id, by="ann")
    assert oid_of(living) == before
    with pytest.raises(Conflict, match="cannot be undone"):
        restores.undo_restore(row.id, by="ann")
    assert oid_of(living) == before


@contextmanager
def logical_slot(database: Database) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        real = swap.Server.rows

        def rows(self: swap.Server, sql: str, *values: object, **more: float):
            if "pg_replication_slots" in sql:  # needs wal_level = logical, and a restart
                return [("sent",)]
            return real(self, sql, *values, **more)

        patch.setattr(swap.Server, "rows", rows)
        yield "logical replication slot sent"


@contextmanager
def missing_role(database: Database) -> Iterator[str]:
    yield "role carol_of_the_past does not exist"


@contextmanager
def difference(database: Database) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        real = running.Loader.count

        def count(self: running.Loader, role: object):
            found = real(self, role)
            found["tables"][0]["rows"] += 1
            return found

        patch.setattr(running.Loader, "count", count)
        yield "rows of public.customers: 50 expected, 51 found"


@contextmanager
def cancelled(database: Database) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        real = running.give_back

        def give_back(loader: running.Loader, *args: object):
            restores.cancel_restore(loader.order.id, by="bob")
            return real(loader, *args)

        patch.setattr(running, "give_back", give_back)
        yield "cancelled by bob"


@pytest.mark.parametrize("trouble", [logical_slot, missing_role, difference, cancelled])
def test_a_replace_that_fails_leaves_the_living_database_alone(
    trouble: Callable[..., object], living: Database, leftovers
):
    if trouble is missing_role:
        living.run("CREATE ROLE carol_of_the_past; GRANT SELECT ON orders TO carol_of_the_past")
    filename = backed_up()
    if trouble is missing_role:
        living.run("DROP OWNED BY carol_of_the_past; DROP ROLE carol_of_the_past")
    living.run("DELETE FROM orders")
    before = oid_of(living)
    with trouble(living) as told:
        row = attempt(filename, Kind.REPLACE)
    assert row.status is Status.FAILED
    assert told in f"{row.error_message} {row.error_detail}"
    assert (row.kept, row.kept_until) == (None, None)
    assert oid_of(living) == before
    assert living.run("SELECT count(*) FROM orders") == [(0,)]
    assert leftovers() == []


@pytest.mark.parametrize("locking", ["CONNECTION LIMIT 90", "a comment"])
def test_a_rename_that_waits_for_a_lock_never_comes_later(
    locking: str, living: Database, server, leftovers, monkeypatch: pytest.MonkeyPatch
):
    """Its session would go on when the lock is let go, long after we have said that it failed."""
    monkeypatch.setattr(swap, "_PATIENCE", 0.5)
    monkeypatch.setattr(swap, "_HELD", 0.5)
    monkeypatch.setattr(swap, "_TRIES", 2)
    filename = backed_up()
    before = oid_of(living)
    with closing(psycopg2.connect(url_of(server, "postgres"))) as holder:
        with holder.cursor() as cursor:
            if locking == "a comment":
                cursor.execute(f"COMMENT ON DATABASE \"{living.name}\" IS 'busy'")
            else:
                cursor.execute(f'ALTER DATABASE "{living.name}" {locking}')
        row = attempt(filename, Kind.REPLACE)
        assert row.status is Status.FAILED
        assert "could not be renamed" in row.error_message
        holder.commit()
    assert oid_of(living) == before
    assert leftovers() == []


def test_a_swap_whose_answer_is_lost_is_known_to_have_happened(
    living: Database, monkeypatch: pytest.MonkeyPatch
):
    real = swap._end_sessions_until_done

    def lost(*args: object) -> None:
        real(*args)
        raise psycopg2.OperationalError("the connection broke")

    monkeypatch.setattr(swap, "_end_sessions_until_done", lost)
    filename = backed_up()
    living.run("DELETE FROM orders")
    row = restored(filename, Kind.REPLACE)
    assert row.kept
    assert living.run("SELECT count(*) FROM orders") == [(500,)]


def test_what_fails_after_the_swap_does_not_deny_it(
    living: Database, monkeypatch: pytest.MonkeyPatch
):
    real = swap._swap

    def late(*args: object) -> float:
        real(*args)
        raise PostgresError("something after it")

    monkeypatch.setattr(swap, "_swap", late)
    filename = backed_up()
    living.run("DELETE FROM orders")
    row = attempt(filename, Kind.REPLACE)
    assert row.is_completed
    assert row.kept
    monkeypatch.undo()
    restores.undo_restore(row.id, by="ann")
    assert living.run("SELECT count(*) FROM orders") == [(0,)]


def test_no_backup_is_made_of_what_is_being_replaced(
    living: Database, monkeypatch: pytest.MonkeyPatch
):
    filename = backed_up()
    told: list[str] = []
    real = running.Loader.count

    def count(self: running.Loader, role: object):
        made = backups.create_backup(trigger=Trigger.CLI, created_by="bob")
        told.append(f"{made.error_message} {made.error_detail}")
        return real(self, role)

    monkeypatch.setattr(running.Loader, "count", count)
    row = restored(filename, Kind.REPLACE)
    (refused,) = told
    assert "is being backed up by another panel" in refused
    assert row.id in refused


def test_nothing_is_replaced_while_it_is_backed_up(
    living: Database, monkeypatch: pytest.MonkeyPatch
):
    """Its safety backup is the first to meet the lock."""
    filename = backed_up()
    before = oid_of(living)
    with hold_lock(parse_url(living.url), application_name="another panel"):
        row = attempt(filename, Kind.REPLACE)
    assert row.status is Status.FAILED
    assert "the backup of the live database failed" in row.error_message
    assert oid_of(living) == before


def test_the_usual_recipe_doubles_rows_and_ours_does_not(living: Database):
    """Facts no. 5: one more view that depends on a table."""
    filename = backed_up()
    living.run("CREATE VIEW beside AS SELECT c.* FROM customers c JOIN orders o ON o.id = c.id")
    living.run("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    subprocess.run(
        [
            toolchain(17).pg_restore, "--clean", "--if-exists", "-d", living.url,
            storage().path_of(filename),
        ],
        check=False, capture_output=True,
    )  # fmt: skip
    assert living.run("SELECT count(*) FROM orders")[0][0] > 500
    row = restored(filename, Kind.BESIDE)
    new = Database(row.database, living.url.replace(living.name, row.database))
    assert new.run("SELECT count(*) FROM orders") == [(500,)]
    restored(filename, Kind.REPLACE)
    assert living.run("SELECT count(*) FROM orders") == [(500,)]
