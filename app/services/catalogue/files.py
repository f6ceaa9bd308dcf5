"""Files of catalogues on SQLite: copied while in use, checked, and replaced."""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy.engine import make_url

from app import locks
from app.config import settings
from app.errors import VerificationError
from app.extensions import db

_PRIVATE = ".export-"


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
def private_file() -> Iterator[Path]:
    """An empty file that only we can read, beside the catalogue, for the time of the block.

    Removes what killed processes have left of theirs. Raises OSError.
    """
    path = find_file() or settings().instance_dir / "catalogue.db"
    for left in path.parent.glob(f"{path.name}{_PRIVATE}{'[0-9a-f]' * 16}"):
        locks.remove_unlocked(left)
    for left in path.parent.glob(f"{path.name}{_PRIVATE}*-*"):  # -wal and -shm
        if not left.with_name(left.name.rpartition("-")[0]).exists():
            left.unlink(missing_ok=True)
    private = path.with_name(f"{path.name}{_PRIVATE}{secrets.token_hex(8)}")
    descriptor = locks.create_locked(private)
    try:
        yield private
    finally:
        for file in path.parent.glob(f"{private.name}*"):
            file.unlink(missing_ok=True)
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
