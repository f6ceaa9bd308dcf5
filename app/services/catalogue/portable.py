"""A catalogue as one SQLite file, wherever it is kept: written from it, and put in its place.

Rows go from one database to the other by the types of the models, so they mean the same there.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, delete, insert, inspect, select
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError
from sqlalchemy.pool import NullPool

from app.errors import ConfigurationError, VerificationError
from app.extensions import Model, db
from app.models import AuditEntry
from app.services.catalogue.errors import explain
from app.services.catalogue.files import copy_committed, find_file, private_file, put_in_place
from app.services.catalogue.state import upgrade_file

_BATCH = 100  # rows; one can have megabytes
_PATIENCE = 15  # seconds that we wait for other writers


@contextmanager
def snapshot() -> Iterator[BinaryIO]:
    """The catalogue as last committed, in a private SQLite file for the time of the block.

    Raises ConfigurationError.
    """
    with ExitStack() as stack:
        try:
            path = stack.enter_context(private_file())
            _write(path)
            file = stack.enter_context(path.open("rb"))
        except (OSError, sqlite3.Error, DatabaseError) as error:
            raise ConfigurationError(
                "the catalogue cannot be copied",
                detail=explain(error).detail,
                hint="Does the instance folder have as much free space as the catalogue takes?",
            ) from error
        yield file


def replace_catalogue(
    path: Path, say: Callable[[str], None], refuse: Callable[[Connection], None]
) -> None:
    """Let a catalogue in a SQLite file, upgraded to this version, be ours: all of it, or nothing.

    `say` gets the lines of the upgrade. On PostgreSQL `refuse` looks into ours once more, when
    nobody else can write it. Raises what it raises, OSError, DatabaseError, ConfigurationError,
    and VerificationError for a file that cannot be a catalogue.
    """
    own = find_file()
    with _opened(path) as engine:
        try:
            upgrade_file(engine, say)
            missing = Model.metadata.tables.keys() - set(inspect(engine).get_table_names())
        except DatabaseError as error:
            raise _unfit(error) from error
        if missing:
            raise VerificationError(f"the export lacks {', '.join(sorted(missing))}")
        if own is None:
            _fill(engine, refuse)
    db.session.remove()
    if own is not None:
        put_in_place(path, own)


def _write(path: Path) -> None:
    own = find_file()
    if own is not None:
        copy_committed(own, path)
        return
    with _opened(path) as engine:
        upgrade_file(engine)
        with db.engine.connect() as ours, engine.begin() as target:
            source = ours.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True, yield_per=_BATCH
            )
            if _revision(source) != _revision(target):
                raise ConfigurationError(
                    "the catalogue does not have the schema of this version",
                    hint="Restart the panel: another version of it has upgraded the catalogue.",
                )
            _copy_rows(source, target)


def _fill(engine: Engine, refuse: Callable[[Connection], None]) -> None:
    """Replace the rows on PostgreSQL by those of a file, in one transaction."""
    tables = Model.metadata.sorted_tables
    entries = AuditEntry.__tablename__
    try:
        with engine.connect() as source, db.engine.begin() as ours:
            ours.exec_driver_sql(f"SET LOCAL lock_timeout = '{_PATIENCE}s'")
            names = ", ".join(table.name for table in tables)
            ours.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
            refuse(ours)
            # Attempts to recover are in the audit, whose trigger refuses to delete them.
            ours.exec_driver_sql(f"ALTER TABLE {entries} DISABLE TRIGGER USER")
            for table in reversed(tables):
                ours.execute(delete(table))
            ours.exec_driver_sql(f"ALTER TABLE {entries} ENABLE TRIGGER USER")
            _copy_rows(source, ours)
    except (DataError, IntegrityError) as error:
        raise _unfit(error) from error


def _copy_rows(source: Connection, target: Connection) -> None:
    """All rows of all tables, those first that others refer to."""
    for table in Model.metadata.sorted_tables:
        for rows in source.execute(select(table)).mappings().partitions(_BATCH):
            target.execute(
                insert(table),
                [{name: _storable(value) for name, value in row.items()} for row in rows],
            )


def _storable(value: Any) -> Any:
    """The same; PostgreSQL has no text with a NUL."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def _opened(path: Path) -> Iterator[Engine]:
    """A SQLite file, which is one again at the end: without -wal and -shm."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


def _unfit(error: DatabaseError) -> VerificationError:
    return VerificationError("the export cannot be restored", detail=explain(error).detail)
