"""Dumps that are missing or damaged, and drills that fail."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import func, select

from app.config import settings
from app.extensions import db
from app.models import Database, DatabaseBackup, Fact, Kind, Level, Proof, Restore, Result, Status
from app.services.alerts.conditions.trouble import NAMED, Trouble, ended_as, trouble_of
from app.services.databases.configured import storage
from app.services.databases.lookup import not_retired
from app.services.proofs.records import was_not_possible

_ASKED_AGAIN = 100  # files that seem to be missing

#: By folder: what was found last, and how folder and catalogue were then.
_last_missing: dict[Path, tuple[tuple[int, int | None] | None, list[str]]] = {}


def missing_files() -> Iterator[Trouble]:
    """Completed backups whose dump is not where it was, told together.

    It lists the storage, so it is not asked for as often. Raises StorageError.
    """
    missing = _missing()
    if not missing:
        return
    folder = str(settings().backup_dir)
    number = (
        "The file of a backup is" if len(missing) == 1 else f"Files of {len(missing)} backups are"
    )
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    yield Trouble(
        Fact.FILE_MISSING,
        folder,
        f"{number} missing",
        f"Not in {folder}: {', '.join(missing[:NAMED])}{more}.",
    )


def _missing() -> list[str]:
    """Newest first; the last answer where neither folder nor catalogue has changed since."""
    is_kept = (
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.delete_requested_at.is_(None),
    )
    folder, number = storage().folder, db.session.scalar(select(func.count()).where(*is_kept))
    key = storage().changed_at(), number
    known, missing = _last_missing.get(folder, (None, []))
    if known == key:
        return missing
    completed = select(DatabaseBackup.filename).where(*is_kept)
    stored = storage().names()
    newest_first = db.session.scalars(completed.order_by(DatabaseBackup.created_at.desc()))
    missing = [name for name in newest_first if name not in stored]
    if len(missing) <= _ASKED_AGAIN:  # some may have been published meanwhile
        missing = [name for name in missing if not storage().has(name)]
    _last_missing[folder] = key, missing
    return missing


def damaged() -> Iterator[Trouble]:
    """Backups whose last proof that says anything speaks against them, by database."""
    failed = select(Proof.backup_id).where(Proof.result == Result.FAILED)
    newest = (
        select(Proof.backup_id, func.max(Proof.proved_at).label("at"))
        .where(Proof.result != Result.NOT_POSSIBLE, Proof.backup_id.in_(failed))
        .group_by(Proof.backup_id)
        .subquery()
    )
    rows = (
        select(Database, DatabaseBackup.filename, Proof.evidence)
        .select_from(DatabaseBackup)
        .join(Database)
        .join(newest, newest.c.backup_id == DatabaseBackup.id)
        .join(Proof, (Proof.backup_id == newest.c.backup_id) & (Proof.proved_at == newest.c.at))
        .where(
            Proof.result == Result.FAILED,
            Proof.level <= Level.READ,  # a failed drill has an alarm of its own
            DatabaseBackup.delete_requested_at.is_(None),
        )
        .order_by(Proof.proved_at.desc())
    )
    lines_of: dict[Database, list[str]] = {}
    for database, filename, evidence in db.session.execute(rows):
        against = "; ".join(
            str(difference) for difference in evidence.get("differences", [])[:NAMED]
        )
        line = f"{filename}: {against or 'its proof failed'}."
        lines_of.setdefault(database, []).append(line)
    for database, lines in lines_of.items():
        number = "A backup" if len(lines) == 1 else f"{len(lines)} backups"
        title = f"{number} of {database.name} damaged"
        yield trouble_of(Fact.FILE_DAMAGED, database, title, "\n".join(lines[:NAMED]))


def failing_drills() -> Iterator[Trouble]:
    """Databases of which the last drill that shows anything failed."""
    newest_first = func.row_number().over(
        partition_by=DatabaseBackup.database_id, order_by=Restore.created_at.desc()
    )
    ended = (
        select(Restore.id, DatabaseBackup.database_id, newest_first.label("place"))
        .join(DatabaseBackup, DatabaseBackup.filename == Restore.filename)
        .where(
            Restore.kind == Kind.DRILL,
            Restore.status != Status.PENDING,
            Restore.cancelled_by.is_(None),
            ~was_not_possible(),
            DatabaseBackup.foreign.is_(False),
        )
        .subquery()
    )
    failed = (
        select(Database, Restore)
        .join(ended, ended.c.database_id == Database.id)
        .join(Restore, Restore.id == ended.c.id)
        .where(ended.c.place == 1, Restore.status == Status.FAILED, not_retired())
    )
    for database, last in db.session.execute(failed):
        title = f"Drill of {database.name} failed"
        body = ended_as(f"The drill of {last.filename}", last)
        yield trouble_of(Fact.DRILL_FAILED, database, title, body, last.finished_at)
