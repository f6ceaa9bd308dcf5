"""Read every dump again from time to time: disks forget, and nobody else would notice."""

import logging
import time
from datetime import timedelta

from sqlalchemy import func, select

from app.config import settings
from app.errors import AppError, DumpError, Interrupted, VerificationError
from app.extensions import db, writing
from app.models import DatabaseBackup, Level, Proof, Result, Status
from app.models.types import now
from app.postgres.archive import RowCounter, read_entries, read_whole
from app.postgres.census import differences
from app.postgres.tools import find_toolchains
from app.services import claims
from app.services.databases import storage
from app.storages import sha256_of

logger = logging.getLogger(__name__)


def scrub(limit: int = 1) -> list[str]:
    """Read again the dumps that were not read for longest, if their time has come.

    That is BACKSTOP_SCRUB_EVERY after their last proof. Each becomes a proof
    of level 2, passed or failed. Returns their names.
    """
    read = [backup_id for backup_id in _due(limit) if _read_again(backup_id)]
    names = select(DatabaseBackup.filename).where(DatabaseBackup.id.in_(read))
    found = list(db.session.scalars(names))
    db.session.commit()
    return found


def _due(limit: int) -> list[str]:
    newest = (
        select(Proof.backup_id, func.max(Proof.proved_at).label("at"))
        .where(Proof.result != Result.NOT_POSSIBLE)
        .group_by(Proof.backup_id)
        .subquery()
    )
    last = func.coalesce(newest.c.at, DatabaseBackup.created_at)
    due = (
        select(DatabaseBackup.id)
        .outerjoin(newest, newest.c.backup_id == DatabaseBackup.id)
        .where(
            DatabaseBackup.status == Status.COMPLETED,
            DatabaseBackup.delete_requested_at.is_(None),
            last < now() - timedelta(seconds=settings().scrub_every),
        )
        .order_by(last)
        .limit(limit)
    )
    found = list(db.session.scalars(due))
    db.session.commit()
    return found


def _read_again(backup_id: str) -> bool:
    """Whether there is a proof of it now; not if this process ends, or it was deleted."""
    backup = db.session.get(DatabaseBackup, backup_id)
    if backup is None:
        return False
    filename, contents = backup.filename, backup.contents or {}
    expected = (backup.size, backup.sha256)
    size = backup.database_size or 0
    db.session.commit()
    began = time.monotonic()
    try:
        rows = _read(filename, expected, size)
    except Interrupted:
        return False
    except (AppError, OSError) as error:
        evidence = {"differences": [str(error)]}
    else:
        told = [
            each | {"rows": rows.rows.get((each["schema"], each["name"]))}
            for each in contents.get("tables", [])
            if not each.get("extension")  # the dump has only some of its rows
        ]
        counted = {
            "tables": [each for each in contents.get("tables", []) if not each.get("extension")]
        }
        evidence = {"differences": differences(counted, {"tables": told})}
    failed = bool(evidence["differences"])
    with writing() as session:
        row = session.get(DatabaseBackup, backup_id)
        if row is None:
            return False
        row.proven = row.proven or not failed
        proof = Proof(backup_id=backup_id, level=Level.READ)
        proof.result = Result.FAILED if failed else Result.PASSED
        proof.milliseconds = round((time.monotonic() - began) * 1000)
        proof.evidence = evidence
        session.add(proof)
    log = logger.error if failed else logger.info
    log("dump read again filename=%s differences=%r", filename, evidence["differences"])
    return True


def _read(filename: str, expected: tuple[int, str], database_size: int) -> RowCounter:
    """The rows of a dump that is still what it was. Raises AppError, Interrupted."""
    with storage().open(filename) as file:
        size, _ = file.seek(0, 2), file.seek(0)
        found = (size, sha256_of(file, on_block=lambda _: _go_on()))
        if found != expected:
            raise VerificationError("the dump is not what it was when it was made")
        entries = read_entries(file)
        able = find_toolchains(settings().pg_bin_dir)
        if not able:
            raise DumpError("no pg_restore was found to read the dump with")
        rows = RowCounter(entries)
        # While it is open nobody prunes it.
        read_whole(
            max(able, key=lambda each: each.version),
            storage().path_of(filename),
            entries=len(entries),
            contents=database_size,
            on_data=rows.take,
            on_tick=_go_on,
        )
    return rows


def _go_on() -> None:
    if claims.is_stopping() or claims.is_leaving():
        raise Interrupted("the reading was interrupted")
