"""Flask's extensions: made here unbound, bound in create_app."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask_babel import Babel
from flask_bootstrap import Bootstrap5
from flask_login import LoginManager
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    Pool,
    Row,
    Select,
    SQLColumnExpression,
    Update,
    event,
)
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import DeclarativeBase, Session

from app.errors import InvalidInput

MAX_SEARCHED = 200  # characters

_BUSY_TIMEOUT = 15_000  # milliseconds that a writer waits for another one


class Model(DeclarativeBase):
    """The base of all rows; constraints have names, so that migrations find them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(disable_autonaming=True)
migrate = Migrate()
login_manager = LoginManager()
csrf = CSRFProtect()
bootstrap = Bootstrap5()
babel = Babel()


@contextmanager
def writing() -> Iterator[Session]:
    """One short transaction that writes: committed at the end, or rolled back.

    On SQLite it takes the write lock at its beginning: a transaction that has
    read and then wants to write fails at once if another one wrote meanwhile,
    whatever the busy timeout. What the session has read before is read anew.
    Inside another one it joins that: all of it is committed, or nothing.
    """
    session: Session = db.session()
    if session.info.get("writing"):
        yield session
        session.flush()  # so that errors of the catalogue appear here, as at a commit
        return
    session.commit()
    session.connection(execution_options={"begin_with": "BEGIN IMMEDIATE"})
    session.info["writing"] = True
    try:
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        del session.info["writing"]


def ask(query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
    """The rows of one query, outside of the session and, on SQLite, without a BEGIN.

    For queries that repeat every few seconds: each costs one statement.
    """
    with _without_begin() as connection:
        return connection.execute(query).all()


def update_alone(statement: Update) -> int:
    """Run one UPDATE as a transaction of its own, without a BEGIN; returns the number of rows."""
    with _without_begin() as connection:
        number = connection.execute(statement).rowcount
        connection.commit()
    return number


@contextmanager
def _without_begin() -> Iterator[Connection]:
    with db.engine.connect() as connection:
        yield connection.execution_options(begin_with="")


@event.listens_for(Engine, "connect")
def _set_up_sqlite(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.isolation_level = None  # transactions begin where we say so, below
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a COMPLETED row survives a power cut
        connection.execute("PRAGMA foreign_keys = ON")
        # So that INSERT OR REPLACE does not bypass triggers that refuse a DELETE.
        connection.execute("PRAGMA recursive_triggers = ON")
        # SQLite's own lower() handles ASCII only, and searches use it to ignore case.
        connection.create_function("lower", 1, _lower, deterministic=True)


@event.listens_for(Engine, "connect")
def _note_sqlite_file(connection: Any, record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        record.info["file"] = _file_of(connection)


@event.listens_for(Pool, "checkout")
def _refuse_lost_sqlite_file(connection: Any, record: Any, _proxy: Any) -> None:
    """A deleted or replaced file lives on in open connections: rows would be lost."""
    if isinstance(connection, sqlite3.Connection):
        path, *was = record.info["file"]
        if path and _identity(path) != tuple(was):
            raise DisconnectionError("the file of the catalogue was replaced")


def _file_of(connection: sqlite3.Connection) -> tuple[str, int, int]:
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    return path, *_identity(path)


def _identity(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def containing(column: SQLColumnExpression[str], text: str) -> ColumnElement[bool]:
    """Whether a column or an expression contains a text, whatever the case of either.

    Raises InvalidInput for a text longer than SQLite and people search for.
    """
    if len(text) > MAX_SEARCHED:
        raise InvalidInput(f"a search has at most {MAX_SEARCHED} characters")
    # SQLite's LIKE already ignores the case of ASCII; our lower() is five times as slow.
    is_enough = text.isascii() and db.engine.dialect.name == "sqlite"
    return (column.contains if is_enough else column.icontains)(text, autoescape=True)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


@event.listens_for(Engine, "begin")
def _begin_on_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get("begin_with", "BEGIN")
    if begin and connection.dialect.name == "sqlite":
        connection.exec_driver_sql(begin)
