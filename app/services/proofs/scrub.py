"""Read every dump again from time to time, because disks lose data silently."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select

from app.config import settings
from app.errors import AppError, Interrupted, NotPossible, StorageError, VerificationError
from app.extensions import db, writing
from app.models import (
    DatabaseBackup,
    Level,
    Proof,
    Result,
    Status,
)
from app.models.types import now
from app.postgres.archive import Expected, read_entries, read_whole
from app.postgres.differences import differences
from app.postgres.rows import RowCounter
from app.postgres.tools import Toolchain, find_toolchains
from app.programs.command import Watch
from app.services.databases.configured import storage
from app.services.proofs.records import judge
from app.storages import sha256_of

logger = logging.getLogger(__name__)

_AGAIN = timedelta(hours=1)  # after an attempt that was not possible


@dataclass(frozen=True)
class Scrubbed:
    """The result of reading one dump again."""

    filename: str
    result: Result
    reason: str  # what is wrong, or why it was not possible


@dataclass(frozen=True)
class _Dump:
    """The facts of a dump, so that no transaction is open while it is read."""

    id: str
    filename: str
    size: int
    sha256: str
    database_size: int
    oldest_reader: int
    compression: str
    tables: list[dict[str, Any]]  # whose rows are all in the dump


def scrub(on_tick: Callable[[], None]) -> Scrubbed | None:
    """Read again the dump that was not read for longest; None if none is due.

    A dump is due BACKSTOP_SCRUB_EVERY after its last proof, or an hour after an attempt
    that was not possible. The result is a proof of level 2. What `on_tick` raises, such
    as Interrupted, comes out.
    """
    dump = _due()
    if dump is None:
        return None
    began = time.monotonic()
    try:
        differing = _differences(dump, on_tick)
    except Interrupted:
        raise
    except (AppError, OSError) as error:
        failed = error if isinstance(error, AppError) else StorageError(str(error))
        scrubbed = Scrubbed(dump.filename, judge(failed), failed.message)
        evidence: dict[str, Any] = {"differences": [failed.in_words()]}
    else:
        result = Result.FAILED if differing else Result.PASSED
        scrubbed = Scrubbed(dump.filename, result, "; ".join(differing))
        evidence = {"differences": differing}
    _record(dump.id, scrubbed.result, evidence, time.monotonic() - began)
    log = logger.info if scrubbed.result is Result.PASSED else logger.error
    log("dump read again filename=%s result=%r reason=%r", *vars(scrubbed).values())
    return scrubbed


def _due() -> _Dump | None:
    last_proof = func.max(Proof.proved_at).label("at")
    newest = select(Proof.backup_id, last_proof).group_by(Proof.backup_id)
    proven = newest.where(Proof.result != Result.NOT_POSSIBLE).subquery()
    tried = newest.where(Proof.result == Result.NOT_POSSIBLE, Proof.level == Level.READ).subquery()
    last = func.coalesce(proven.c.at, DatabaseBackup.created_at)
    due = (
        select(DatabaseBackup)
        .outerjoin(proven, proven.c.backup_id == DatabaseBackup.id)
        .outerjoin(tried, tried.c.backup_id == DatabaseBackup.id)
        .where(
            DatabaseBackup.status == Status.COMPLETED,
            DatabaseBackup.delete_requested_at.is_(None),
            last < now() - timedelta(seconds=settings().scrub_every),
            func.coalesce(tried.c.at, last) < now() - _AGAIN,
        )
        .order_by(last)
        .limit(1)
    )
    backup = db.session.scalar(due)
    dump = _dump_of(backup) if backup is not None else None
    db.session.commit()
    return dump


def _dump_of(backup: DatabaseBackup) -> _Dump:
    tables = (backup.contents or {}).get("tables", [])
    return _Dump(
        id=backup.id,
        filename=backup.filename,
        size=backup.size,
        sha256=backup.sha256,
        database_size=backup.database_size or 0,
        oldest_reader=backup.oldest_reader or 0,
        compression=backup.compression,
        tables=[table for table in tables if not table.get("extension")],
    )


def _differences(dump: _Dump, on_tick: Callable[[], None]) -> list[str]:
    """How the rows of an unchanged dump differ. Raises AppError."""
    rows = _read(dump, on_tick).rows
    tables = [table | {"rows": rows.get((table["schema"], table["name"]))} for table in dump.tables]
    return differences({"tables": dump.tables}, {"tables": tables})


def _read(dump: _Dump, on_tick: Callable[[], None]) -> RowCounter:
    toolchain = _toolchain_for(dump)  # before hours of reading
    with storage().open(dump.filename) as file:
        size, _ = file.seek(0, 2), file.seek(0)
        if (size, sha256_of(file, on_block=lambda _: on_tick())) != (dump.size, dump.sha256):
            raise VerificationError("the dump was changed since it was made")
        entries = read_entries(file)
        rows = RowCounter(entries)
        # While it is open nobody prunes it.
        read_whole(
            toolchain,
            storage().path_of(dump.filename),
            Expected(len(entries), dump.database_size),
            Watch(on_output=rows.take, on_tick=on_tick),
        )
    return rows


def _toolchain_for(dump: _Dump) -> Toolchain:
    toolchains = find_toolchains(settings().pg_bin_dir)
    able = [
        toolchain
        for toolchain in toolchains
        if toolchain.reads(dump.oldest_reader, dump.compression)
    ]
    if not able:
        raise NotPossible(
            "no pg_restore was found that reads the dump",
            hint="Install the client programs of its version, or set BACKSTOP_PG_BIN_DIR.",
        )
    return max(able, key=lambda toolchain: toolchain.version)


def _record(backup_id: str, result: Result, evidence: dict[str, Any], seconds: float) -> None:
    """Record the proof; of those that were not possible only the last one is kept."""
    with writing() as session:
        row = session.get(DatabaseBackup, backup_id)
        if row is None:
            return
        row.proven = row.proven or result is Result.PASSED
        session.execute(
            delete(Proof).where(
                Proof.backup_id == backup_id,
                Proof.level == Level.READ,
                Proof.result == Result.NOT_POSSIBLE,
            )
        )
        proof = Proof(backup_id=backup_id, level=Level.READ, result=result, evidence=evidence)
        proof.milliseconds = round(seconds * 1000)
        session.add(proof)
