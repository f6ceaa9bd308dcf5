"""Backups beside what obeys no snapshot: every row is there, and none fails for what is gone."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest

from app.models import DatabaseBackup, Trigger
from app.services.backups import run as backup_run
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from tests.conftest import Database, on_catalogues
from tests.faults.lab import USUAL_N, N

# The catalogue has no part in this.
pytestmark = [pytest.mark.usefixtures("context"), on_catalogues("sqlite")]

ROWS = 300
TRUNCATE = f"""
    BEGIN; TRUNCATE moved; INSERT INTO moved SELECT n, 'x' FROM generate_series(1, {ROWS}) n; COMMIT
"""
CHANGES = {
    "truncate": [TRUNCATE],
    "rewrite": ["ALTER TABLE moved ALTER id TYPE bigint", "ALTER TABLE moved ALTER id TYPE int"],
    "cluster": ["CLUSTER moved USING moved_pkey"],
    "vacuum": ["VACUUM FULL moved"],
    "refresh": ["REFRESH MATERIALIZED VIEW summary"],
    "tables": [
        "CREATE TABLE passing AS SELECT n FROM generate_series(1, 10) n",
        "ALTER TABLE passing ADD extra text DEFAULT 'x'; ALTER TABLE moved ADD extra text",
        "ALTER TABLE passing DROP extra; ALTER TABLE moved DROP extra",
        "DROP TABLE passing",
    ],
    "views": ["CREATE VIEW passing AS SELECT * FROM moved", "DROP VIEW passing"],
}


HELD = """
    SELECT count(*), count(backend_xmin),
           (SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE application_name LIKE 'backstop backup%' AND locktype = 'relation')
    FROM pg_stat_activity WHERE application_name LIKE 'backstop backup%'
"""


@pytest.fixture
def moving(shop: Database) -> Database:
    shop.run("CREATE TABLE moved (id int PRIMARY KEY, word text)")
    shop.run("CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM moved")
    shop.run(TRUNCATE)
    return shop


@contextmanager
def changing(database: Database, statements: list[str], pause: float = 0) -> Iterator[list[float]]:
    """Run these again and again; tells how long each has taken."""
    over, took = threading.Event(), []

    def change() -> None:
        with closing(psycopg2.connect(database.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in itertools.cycle(statements):
                    began = time.monotonic()
                    cursor.execute(statement)
                    took.append(time.monotonic() - began)
                    if over.wait(pause) and statement is statements[-1]:
                        return

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def backed_up() -> DatabaseBackup:
    made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    assert made.is_completed, (made.error_message, made.error_detail, made.log)
    (read,) = proofs.list_proofs(made.id)
    assert read.evidence["differences"] == []
    return made


def rows_of(made: DatabaseBackup) -> dict[str, int]:
    return {each["name"]: each["rows"] for each in made.contents["tables"]}


@pytest.mark.parametrize("change", CHANGES)
def test_every_row_is_there_whatever_others_do_to_its_table(change: str, moving: Database):
    with changing(moving, CHANGES[change]) as took:
        for _ in range(4):
            rows = rows_of(backed_up())
            assert rows["moved"] == ROWS
            assert rows.get("passing", 10) == 10
    assert took


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("change", CHANGES)
def test_every_row_is_there_in_many_backups(change: str, moving: Database):
    """Fifty beside TRUNCATE; beside the others a long run of the faults makes as many."""
    with changing(moving, CHANGES[change], pause=0.7 if N > USUAL_N else 0) as took:
        for _ in range(50 if N > USUAL_N or change == "truncate" else 6):
            assert rows_of(backed_up())["moved"] == ROWS
    assert took


def test_tables_are_let_go_as_soon_as_pg_dump_has_ended(
    moving: Database, monkeypatch: pytest.MonkeyPatch
):
    """While the dump is read back there is no snapshot, and DDL waits for nobody."""
    held: list[tuple[int, ...]] = []
    real = backup_run.read_back

    def read_back(*values: object, **options: object) -> object:
        held.extend(moving.run(HELD))
        moving.run("SET lock_timeout = '1s'; ALTER TABLE moved ALTER id TYPE bigint")
        return real(*values, **options)

    monkeypatch.setattr(backup_run, "read_back", read_back)
    backed_up()
    assert held == [(1, 0, 0)]
