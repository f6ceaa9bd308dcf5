"""What the catalogue's database refuses is told by its cause."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from app.extensions import db
from app.services.catalogue.errors import explain


def error_of(act: Callable[[], object]) -> DatabaseError:
    with pytest.raises(DatabaseError) as raised:
        act()
    db.session.rollback()
    return raised.value


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("statement", ["SELECT shoe_size FROM admins", "SELECT * FROM nowhere"])
def test_what_is_missing_in_the_catalogue_is_no_full_disk(statement: str):
    told = explain(error_of(lambda: db.session.execute(sa.text(statement))))
    assert told.message == "the catalogue does not have the schema of this version"
    assert "Restart the panel" in told.hint
    assert "disk" not in told.in_words()


def test_a_locked_catalogue_is_told_as_such(tmp_path: Path):
    path = tmp_path / "catalogue.db"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    other = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError) as raised:
        other.execute("CREATE TABLE kept (id int)")
    assert explain(raised.value).message == "the catalogue is locked by another program"
    holder.close()
    other.close()


def test_a_damaged_catalogue_is_told_how_to_make_anew(tmp_path: Path):
    path = tmp_path / "catalogue.db"
    path.write_bytes(b"no database" * 1000)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError) as raised:
        connection.execute("SELECT * FROM sqlite_master")
    told = explain(raised.value)
    assert told.message == "the catalogue is damaged"
    assert "flask backup rebuild" in told.hint
    connection.close()


@pytest.mark.usefixtures("context")
def test_the_cause_counts_and_not_what_followed_from_it():
    """SQLite rolls back on a full disk; a table that was made meanwhile is missing then."""

    def drop_what_was_rolled_back() -> None:
        try:
            raise full
        except sqlite3.OperationalError:
            db.session.execute(sa.text("DROP TABLE _alembic_tmp_database_backups"))

    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    told = explain(error_of(drop_what_was_rolled_back))
    assert told.message == "the disk of the catalogue is full"
