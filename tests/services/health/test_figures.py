"""What is measured from outside."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from cuid2 import create_id
from flask import Flask
from sqlalchemy import event, update

from app.extensions import db, writing
from app.models import (
    Copy,
    DatabaseBackup,
    Level,
    Loss,
    Proof,
    Result,
    Status,
    Store,
    TakesCatalogue,
    Trigger,
)
from app.models.backup import filename_of
from app.models.types import now
from app.services.backups.queue import FOREIGN
from app.services.databases.configured import storage
from app.services.health.figures import Figures, OfStore, read_figures
from tests.conftest import database_id

pytestmark = pytest.mark.usefixtures("context")

START = now() - timedelta(days=9)


def plant(days: float, database: str = "shop", **values: Any) -> str:
    """A row of so many days after the start, without a dump; its id."""
    moment = START + timedelta(days=days)
    row: dict[str, Any] = {
        "id": create_id(),
        "filename": filename_of(moment),
        "created_at": moment,
        "started_at": moment + timedelta(seconds=1),
        "finished_at": moment + timedelta(seconds=61),
        "server": "db:5432",
        "database": database,
        "status": Status.COMPLETED,
        "trigger": Trigger.SCHEDULE,
        "size": 100,
    }
    row |= values
    row["database_id"] = database_id(row["server"], row["database"])
    with writing() as session:
        session.add(DatabaseBackup(**row))
    return str(row["id"])


def prove(backup_id: str, days: float, level: Level, result: Result = Result.PASSED) -> None:
    evidence = {"differences": ["one"], "found": ["one"]}
    with writing() as session:
        session.add(
            Proof(
                backup_id=backup_id,
                level=level,
                result=result,
                proved_at=START + timedelta(days=days),
                milliseconds=5,
                evidence=evidence,
            )
        )


def figures_of(database: str = "shop", server: str = "db:5432") -> Any:
    (found,) = [
        figures
        for guarded, figures in read_figures().databases
        if (guarded.server, guarded.dbname) == (server, database)
    ]
    return found


def test_nothing_is_told_of_an_empty_catalogue():
    assert read_figures() == Figures([], {}, {}, 0, 0, 0, None)


def test_the_newest_completed_backup_counts_whatever_came_after():
    plant(1, size=1)
    plant(2, size=2)
    plant(3, status=Status.FAILED, size=0)
    plant(4, status=Status.PENDING, size=0)
    found = figures_of()
    assert found.newest.size == 2
    assert found.newest.finished_at == START + timedelta(days=2, seconds=61)
    assert found.newest.duration == timedelta(seconds=60)
    assert not found.newest.is_there
    assert found.last_failure == START + timedelta(days=3)


def test_a_dump_that_is_there_is_told():
    plant(1)
    storage().folder.mkdir()
    (storage().folder / filename_of(START + timedelta(days=1))).touch()
    assert figures_of().newest.is_there


def test_the_newest_good_backup_is_told_beside_the_newest_one():
    for days in range(4):
        plant(days)
    storage().folder.mkdir()
    for days in (0, 1, 3):
        (storage().folder / filename_of(START + timedelta(days=days))).touch()
    assert figures_of().last_good == START + timedelta(days=3, seconds=61)
    failed = plant(4)
    (storage().folder / filename_of(START + timedelta(days=4))).touch()
    prove(failed, 4, Level.READ, Result.FAILED)
    (storage().folder / filename_of(START + timedelta(days=3))).unlink()
    assert figures_of().newest.finished_at == START + timedelta(days=4, seconds=61)
    assert figures_of().last_good == START + timedelta(days=1, seconds=61)
    shutil.rmtree(storage().folder)
    assert figures_of().last_good is None


def test_databases_of_one_name_on_two_servers_are_two():
    plant(1, size=1)
    plant(2, size=2, server="other:5432")
    assert figures_of().newest.size == 1
    assert figures_of(server="other:5432").newest.size == 2


def test_a_dump_from_elsewhere_is_stored_and_counted_but_no_success():
    plant(1, server=FOREIGN, foreign=True, trigger=Trigger.API)
    found = read_figures()
    assert not found.databases
    assert found.stored == 100
    assert found.backups == {(Status.COMPLETED, Trigger.API): 1}


def test_the_proof_is_that_of_the_newest_and_one_that_failed_is_none():
    plant(1)
    assert figures_of().newest.proof_level is None
    newest = plant(2)
    prove(newest, 2.1, Level.READ)
    prove(newest, 2.2, Level.RESTORED, Result.NOT_POSSIBLE)
    found = figures_of()
    assert found.newest.proof_level == Level.READ
    assert found.newest.proved_at == START + timedelta(days=2.1)
    assert found.last_drill is None
    prove(newest, 2.3, Level.RESTORED, Result.FAILED)
    assert figures_of().newest.proof_level == 0


def test_the_newest_drill_is_of_any_backup_that_was_restored_and_right():
    first, second = plant(1), plant(2)
    prove(first, 5, Level.ASSERTED)
    prove(first, 4, Level.RESTORED)
    prove(second, 6, Level.RESTORED, Result.FAILED)
    prove(second, 7, Level.READ)
    assert figures_of().last_drill == START + timedelta(days=5)


def test_counts_and_bytes_are_of_all():
    for days in range(3):
        plant(days)
    plant(3, "other", status=Status.FAILED, size=0, trigger=Trigger.API)
    found = read_figures()
    assert found.stored == 300
    assert found.backups == {
        (Status.COMPLETED, Trigger.SCHEDULE): 3,
        (Status.FAILED, Trigger.API): 1,
    }


def keep(store: str, *days: float, address: str = "", **values: Any) -> None:
    """Good copies in a store, unless the values say otherwise, of backups of those days."""
    with writing() as session:
        session.merge(Store(id=store, name=store, address=address))
        session.flush()
        for day in days:
            row = {"status": Status.COMPLETED, "trigger": Trigger.SCHEDULE, "size": 10}
            moment = START + timedelta(days=day)
            kept = Copy(store_id=store, filename=filename_of(moment), dumped_at=moment)
            for name, value in (row | values).items():
                setattr(kept, name, value)
            session.add(kept)


def test_each_store_has_its_good_copies_and_its_lost_ones():
    keep("empty")
    keep("nas", 1, 3)
    keep("nas", 4, loss=Loss.MISSING)
    keep("nas", 5, status=Status.PENDING, size=0)
    keep("nas", 6, status=Status.PENDING, loss=Loss.DAMAGED)
    keep("nas", 7, status=Status.FAILED)
    assert read_figures().stores == {
        "empty": OfStore(0, 0, None, 0, 0),
        "nas": OfStore(2, 20, START + timedelta(days=3), lost=2, pending=2),
    }


def export_to(name: str, kind: TakesCatalogue = TakesCatalogue.ALWAYS) -> None:
    values = {"takes_catalogue": kind, "exported_at": START}
    with writing() as session:
        session.execute(update(Store).where(Store.name == name).values(values))


def test_a_store_that_takes_the_catalogue_has_the_time_of_its_last_export():
    for name in ("nas", "open", "new"):
        keep(name)
    export_to("nas")
    export_to("open", TakesCatalogue.ENCRYPTED)
    found = {name: store.exported for name, store in read_figures().stores.items()}
    assert found == {"nas": START, "new": None, "open": None}


def test_many_rows_take_as_many_queries_as_few(app: Flask):
    def fill(databases: int) -> None:
        for n in range(databases):
            prove(plant(databases / 100 + n / 1000, f"shop_{databases}_{n}"), 8, Level.RESTORED)
            plant(databases / 100 + n / 1000 + 5, f"shop_{databases}_{n}", status=Status.FAILED)
            keep(f"s{databases}_{n}", 1, 2)

    with counting() as few:
        read_figures()
    fill(3)
    with counting() as some:
        read_figures()
    fill(20)
    with counting() as many:
        assert len(read_figures().databases) == 23
    assert len(few) == len(some) == len(many) < 15


@contextmanager
def counting() -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(db.engine, "before_cursor_execute", note)
