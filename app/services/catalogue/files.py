"""The file of a catalogue on SQLite: copied while it is in use, and replaced."""

import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.engine import make_url

from app import locks
from app.config import settings
from app.errors import ConfigurationError, VerificationError
from app.extensions import db

_EXPORT = ".export-"
_LOCK = "lock"


def find_file() -> Path | None:
    """The file of the catalogue; None on PostgreSQL."""
    url = make_url(settings().catalogue_url)
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def copy_committed(path: Path, empty: Path) -> None:
    """Copy a catalogue as last committed into an empty file. Raises OSError, sqlite3.Error."""
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("VACUUM INTO ?", [str(empty)])


def make_durable(path: Path) -> None:
    """Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def snapshot(path: Path) -> Iterator[BinaryIO]:
    """The catalogue as last committed, in a private file beside it for the time of the block.

    Removes what killed processes have left of theirs. Raises ConfigurationError.
    """
    for left in path.parent.glob(f"{path.name}{_EXPORT}*"):
        locks.remove_unlocked(left)
    partial = path.with_name(f"{path.name}{_EXPORT}{secrets.token_hex(8)}")
    try:
        descriptor = locks.create_locked(partial)
        try:
            copy_committed(path, partial)
        except BaseException:
            partial.unlink()
            os.close(descriptor)
            raise
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            "the catalogue cannot be copied",
            detail=f"{error}.",
            hint=f"Free as much space in {path.parent} as the catalogue takes.",
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        try:
            yield file
        finally:
            partial.unlink()


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder in another one that is ours, for the time of the block.

    Removes what killed processes have left of theirs. Raises OSError.
    """
    for left in parent.glob(f"{_EXPORT}*"):
        if locks.remove_unlocked(left / _LOCK):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_EXPORT, dir=parent) as name:
        descriptor = locks.create_locked(Path(name, _LOCK))
        try:
            yield Path(name)
        finally:
            os.close(descriptor)


def checked_revision(path: Path) -> str:
    """The revision of a whole catalogue in a file. Raises VerificationError for another file."""
    try:
        with closing(sqlite3.connect(path)) as reader:
            (result,) = reader.execute("PRAGMA integrity_check(1)").fetchone()
            (revision,) = reader.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise VerificationError("the export is no catalogue", detail=f"{error}.") from error
    if result != "ok":
        raise VerificationError("the export is a damaged catalogue")
    return str(revision)


def put_in_place(whole: Path, path: Path) -> None:
    """Let another file be the catalogue, which nobody else may use now. Raises OSError."""
    make_durable(whole)
    db.session.remove()
    db.engine.dispose()
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").unlink()
    whole.replace(path)
    make_durable(path.parent)
