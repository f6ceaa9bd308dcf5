"""A catalogue on PostgreSQL as a file of SQLite, and back: all exports have that form."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, delete, insert, select
from sqlalchemy.exc import DatabaseError

from app.config import settings
from app.errors import ConfigurationError
from app.extensions import Model, db
from app.models import AuditEntry
from app.services.catalogue.errors import explain
from app.services.catalogue.files import private_folder, snapshot
from app.services.catalogue.state import prepare_file

_BATCH = 500  # rows that are held at once


@contextmanager
def snapshot_of_rows() -> Iterator[BinaryIO]:
    """The catalogue on PostgreSQL as last committed, as one in a file, for the time of the block.

    Raises ConfigurationError.
    """
    try:
        with private_folder(settings().instance_dir) as folder:
            path = folder / "catalogue.db"
            with _file(path) as file:
                prepare_file(file)
                with _unchanging() as source, file.begin() as target:
                    _copy_rows(source, target)
            with snapshot(path) as copied:
                yield copied
    except OSError as error:
        raise ConfigurationError("the catalogue cannot be copied", detail=f"{error}.") from error


def restore_rows(
    path: Path, refuse: Callable[[Connection], None], say: Callable[[str], None]
) -> None:
    """Let our catalogue on PostgreSQL have the rows of one in a file, and no others.

    The file is upgraded; `say` gets the lines of that. All or nothing: `refuse` is called while
    nobody else can write, and may raise. Raises ConfigurationError.
    """
    try:
        with _file(path) as file:
            prepare_file(file, say)
            db.session.remove()
            with file.connect() as source, db.engine.begin() as target:
                _lock(target)
                refuse(target)
                _remove_rows(target)
                _copy_rows(source, target)
    except DatabaseError as error:
        explained = explain(error)
        raise ConfigurationError(
            "the rows of the catalogue cannot be restored",
            detail=f"{explained.message}. {explained.detail}",
            hint=explained.hint,
        ) from error


@contextmanager
def _file(path: Path) -> Iterator[Engine]:
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _unchanging() -> Iterator[Connection]:
    """A connection that sees one state of our catalogue."""
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with db.engine.connect().execution_options(**options) as connection:
        yield connection


def _copy_rows(source: Connection, target: Connection) -> None:
    rows = source.execution_options(yield_per=_BATCH)
    for table in Model.metadata.sorted_tables:
        for part in rows.execute(select(table)).mappings().partitions():
            target.execute(insert(table), [dict(row) for row in part])


def _lock(target: Connection) -> None:
    names = ", ".join(Model.metadata.tables)
    target.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")


def _remove_rows(target: Connection) -> None:
    """Remove what a panel writes by itself; the audit only grows at any other time."""
    audit = AuditEntry.__tablename__
    target.exec_driver_sql(f"ALTER TABLE {audit} DISABLE TRIGGER USER")
    for table in reversed(Model.metadata.sorted_tables):
        target.execute(delete(table))
    target.exec_driver_sql(f"ALTER TABLE {audit} ENABLE TRIGGER USER")
