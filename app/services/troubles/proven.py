"""Dumps that are missing or damaged, and drills that fail."""

from collections.abc import Iterator

from sqlalchemy import func, select

from app.config import settings
from app.extensions import db
from app.models import DatabaseBackup, Fact, Kind, Level, Proof, Restore, Result, Status
from app.services.databases import DatabaseName, storage
from app.services.troubles.trouble import NAMED, Trouble, ended_as, trouble_of


def missing_files() -> Iterator[Trouble]:
    """Completed backups whose dump is not where it was, told together for each database.

    It lists the storage, so it is not asked for as often. Raises StorageError.
    """
    completed = select(
        DatabaseBackup.server, DatabaseBackup.database, DatabaseBackup.filename
    ).where(DatabaseBackup.status == Status.COMPLETED, DatabaseBackup.delete_requested_at.is_(None))
    # First the files: what is deleted or made meanwhile has no file, or no row.
    stored = storage().list()
    rows = db.session.execute(completed.order_by(DatabaseBackup.created_at.desc()))
    missing: dict[DatabaseName, list[str]] = {}
    for server, database, filename in rows:
        if filename not in stored and not storage().has(filename):
            missing.setdefault(DatabaseName(server, database), []).append(filename)
    for name, files in missing.items():
        number = "A file is" if len(files) == 1 else f"{len(files)} files are"
        more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
        yield trouble_of(
            Fact.FILE_MISSING,
            name,
            f"{number} missing among the backups of {name.database}",
            f"Not in {settings().backup_dir}: {', '.join(files[:NAMED])}{more}.",
        )


def damaged() -> Iterator[Trouble]:
    """Backups whose last proof that says anything speaks against them."""
    failed = select(Proof.backup_id).where(Proof.result == Result.FAILED)
    newest = (
        select(Proof.backup_id, func.max(Proof.proved_at).label("at"))
        .where(Proof.result != Result.NOT_POSSIBLE, Proof.backup_id.in_(failed))
        .group_by(Proof.backup_id)
        .subquery()
    )
    found = (
        select(DatabaseBackup, Proof)
        .join(newest, newest.c.backup_id == DatabaseBackup.id)
        .join(Proof, (Proof.backup_id == newest.c.backup_id) & (Proof.proved_at == newest.c.at))
        .where(
            Proof.result == Result.FAILED,
            Proof.level <= Level.READ,  # a drill's are told as such
            DatabaseBackup.delete_requested_at.is_(None),
        )
    )
    for backup, proof in db.session.execute(found):
        against = "; ".join(str(each) for each in proof.evidence.get("differences", [])[:NAMED])
        yield Trouble(
            Fact.FILE_DAMAGED,
            backup.filename,
            f"A backup of {backup.database} is damaged",
            f"{backup.filename}: {against or 'its proof failed'}. Make another backup.",
            DatabaseName(backup.server, backup.database),
            proof.proved_at,
        )


def failing_drills(name: DatabaseName) -> Iterator[Trouble]:
    """The last one of a backup of this database."""
    ended = (
        select(Restore)
        .join(DatabaseBackup, DatabaseBackup.filename == Restore.filename)
        .where(
            Restore.kind == Kind.DRILL,
            Restore.status != Status.PENDING,
            Restore.cancelled_by.is_(None),
            DatabaseBackup.server == name.server,
            DatabaseBackup.database == name.database,
            DatabaseBackup.foreign.is_(False),
        )
        .order_by(Restore.created_at.desc())
    )
    last = db.session.scalar(ended.limit(1))
    if last is not None and not last.is_completed:
        title = f"Drill of {name.database} failed"
        body = ended_as(f"The drill of {last.filename}", last)
        yield trouble_of(Fact.DRILL_FAILED, name, title, body, last.finished_at)
