"""The file of a SQLite catalogue, deleted or replaced under a process that lives."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from app.extensions import db, writing
from app.models import DatabaseBackup, Trigger
from app.services.backups import listing
from app.services.catalogue.state import prepare_catalogue
from tests.conftest import panel_in

NAMES = ["backup_2026-01-01T00-00-00-000Z.dump", "backup_2026-01-01T00-00-00-001Z.dump"]


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    """A panel that has its catalogue open and one backup in it."""
    with panel_in(tmp_path, sqlite_template) as app, app.app_context():
        add(NAMES[0])
        assert listed() == NAMES[:1]
        yield app


def catalogue() -> Path:
    assert db.engine.url.database is not None
    return Path(db.engine.url.database)


def add(filename: str) -> None:
    with writing() as session:
        session.add(
            DatabaseBackup(filename=filename, server="s", database=filename, trigger=Trigger.CLI)
        )


def listed() -> list[str]:
    try:
        return sorted(each.filename for each in listing.list_backups().backups)
    finally:
        db.session.rollback()


def in_the_file(path: Path) -> list[str]:
    """What another process finds there."""
    with closing(sqlite3.connect(path)) as other:
        rows = other.execute("SELECT filename FROM database_backups ORDER BY filename")
        return [filename for (filename,) in rows]


def take_away(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def test_a_catalogue_that_was_deleted_is_neither_read_nor_written_any_more(panel: Flask):
    take_away(catalogue())
    with pytest.raises(OperationalError, match="no such table"):
        listed()
    with pytest.raises(OperationalError, match="no such table"):
        add(NAMES[1])


def test_a_catalogue_that_was_deleted_can_be_made_anew_by_the_same_process(panel: Flask):
    take_away(catalogue())
    prepare_catalogue()
    assert listed() == []
    add(NAMES[1])
    assert in_the_file(catalogue()) == NAMES[1:] == listed()


@pytest.mark.parametrize("way", ["renamed onto it", "deleted and written anew"])
def test_a_catalogue_that_was_replaced_is_the_one_that_counts(
    panel: Flask, sqlite_template: Path, way: str
):
    path = catalogue()
    other = path.with_name("other.db")
    shutil.copy(sqlite_template, other)
    with closing(sqlite3.connect(path)) as settled:
        settled.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if way == "renamed onto it":
        for beside in (f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(beside).unlink(missing_ok=True)
        other.rename(path)
    else:
        take_away(path)
        shutil.copy(other, path)
    assert listed() == []
    add(NAMES[1])
    assert listed() == NAMES[1:]
    assert in_the_file(path) == NAMES[1:]


def test_every_connection_of_the_process_notices_it(panel: Flask, sqlite_template: Path):
    """Also one that lay in the pool while another was used."""
    ready, go = threading.Barrier(3), threading.Barrier(3)
    found: list[list[str]] = []

    def look() -> None:
        with panel.app_context():
            listed()
            with db.engine.connect() as held:
                assert held.in_transaction() is False
                ready.wait(20)
            go.wait(20)
            found.append(listed())

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait(20)
    take_away(catalogue())
    shutil.copy(sqlite_template, catalogue())
    go.wait(20)
    for thread in threads:
        thread.join(20)
    assert found == [[], []]


def test_a_catalogue_that_others_write_to_is_still_the_same(panel: Flask):
    first = db.session.connection().connection.driver_connection
    db.session.rollback()
    with closing(sqlite3.connect(catalogue())) as other, other:
        other.execute(
            "UPDATE database_backups SET notes = 'by another process' WHERE filename = ?",
            NAMES[:1],
        )
    assert listing.get_backup(NAMES[0]).notes == "by another process"
    assert db.session.connection().connection.driver_connection is first
    db.session.rollback()


def test_a_catalogue_in_memory_has_no_file_to_lose(tmp_path: Path):
    engine = db.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (id int)")
        connection.commit()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM kept").scalar() == 0
    engine.dispose()
