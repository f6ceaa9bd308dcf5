"""Upgrade the catalogue: keep a copy, report each step, and lose no row."""

import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationInfo
from alembic.script import Script
from sqlalchemy import Connection

from app.errors import ConfigurationError
from app.services.catalogue.files import copy_committed, make_durable

_KEPT_COPIES = 3
_MARK = ".revision-"

logger = logging.getLogger(__name__)


class Upgrade:
    """One run of migrations on a connection without a transaction.

    SQLite changes a table by replacing it, and dropping the old one would delete all rows
    that refer to it: so foreign keys are off. The connection leaves the pool, so that
    nobody else works without them. `keeps_copy` copies a SQLite file first.
    """

    def __init__(
        self,
        connection: Connection,
        say: Callable[[str], None] | None,
        *,
        keeps_copy: bool = True,
    ) -> None:
        self._connection = connection
        self._say = say or logger.info
        self._keeps_copy = keeps_copy
        self._is_upgrade = False  # or the creation of a catalogue
        self._on_sqlite = connection.dialect.name == "sqlite"
        if self._on_sqlite:
            raw = connection.connection.driver_connection
            connection.detach()
            raw.execute("PRAGMA foreign_keys = OFF")  # type: ignore[union-attr]

    @contextmanager
    def run(self, current: str | None, wanted: str | None) -> Iterator[None]:
        """Copy the catalogue, run the migrations inside, and check for orphaned rows.

        Their transaction blocks other writers. Raises ConfigurationError.
        """
        if wanted is None or wanted == current:
            yield
            return
        self._is_upgrade = current is not None
        orphans = self._orphans()
        if current is not None:
            self._say(
                f"Upgrading the catalogue from revision {current} to {wanted}."
                " With many backups this takes minutes."
            )
            if self._on_sqlite and self._keeps_copy:
                copy = _keep_copy(Path(self._connection.engine.url.database or ""), current)
                self._say(f"A copy from before the upgrade: {copy}")
        yield
        if made := self._orphans() - orphans:
            raise ConfigurationError(
                "the upgrade would lose rows that others refer to; the catalogue is unchanged",
                detail="; ".join(f"{table}: {number} rows" for table, number in made.items()),
                hint="Run the version that you had before, and report this.",
            )
        if self._is_upgrade:
            self._say("The catalogue is upgraded.")

    def say_step(self, step: MigrationInfo, **_: Any) -> None:
        """Alembic's callback after each migration."""
        script = step.up_revision
        if self._is_upgrade and isinstance(script, Script):
            self._say(f"  {script.revision}: {script.doc}")

    def _orphans(self) -> Counter[str]:
        """How many rows of each table refer to a missing row."""
        if not self._on_sqlite:
            return Counter()
        rows = self._connection.exec_driver_sql("PRAGMA foreign_key_check")
        return Counter(table for table, *_ in rows)


def find_copies(catalogue: Path) -> dict[str, Path]:
    """The copies of a SQLite file from before upgrades, by revision, newest first."""
    copies = catalogue.parent.glob(f"{catalogue.name}{_MARK}*[0-9]")
    newest_first = sorted(copies, key=lambda copy: copy.stat().st_mtime, reverse=True)
    return {copy.name.rpartition(_MARK)[2]: copy for copy in newest_first}


def _keep_copy(path: Path, revision: str) -> Path:
    """Copy the catalogue as last committed; remove the copies of old upgrades."""
    copy = path.with_name(f"{path.name}{_MARK}{revision}")
    partial = copy.with_name(f"{copy.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL, mode=0o600))
        copy_committed(path, partial)
        make_durable(partial)
        partial.rename(copy)
        make_durable(path.parent)
        for old in list(find_copies(path).values())[_KEPT_COPIES:]:
            old.unlink()
    except (OSError, sqlite3.Error) as error:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(
            "the catalogue cannot be copied before its upgrade, and is unchanged",
            detail=f"{error}.",
            hint=f"Free as much space in {path.parent} as the catalogue takes, and try again.",
        ) from error
    return copy
