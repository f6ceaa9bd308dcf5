"""The backups of a database in the catalogue, as the rules of retention see them."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, exists, or_, select, true

from app.config import settings
from app.errors import StorageError
from app.extensions import db
from app.models import Database, DatabaseBackup, Level, Proof, Restore, Result, Status
from app.services.databases.configured import storage
from app.services.proofs.records import failing_backups
from app.services.retention.candidate import Candidate

_B = DatabaseBackup


def list_candidates(database: Database, at: datetime) -> list[Candidate]:
    """All completed backups of a database, oldest first.

    One index holds these columns: 100,000 rows take about 1.5 seconds and 65 MB.
    """
    completed = and_(
        _B.database_id == database.id,
        _B.status == Status.COMPLETED,
        _B.delete_requested_at.is_(None),
    )
    rows = db.session.execute(_facts().where(completed).order_by(_B.created_at, _B.id)).all()
    is_pinned = _B.pinned_at.is_not(None)
    pins = dict(db.session.execute(select(_B.id, _B.pin_reason).where(completed, is_pinned)).all())
    damaged, holds = set(failing_backups(database.id)), _holds(at)
    stored = _stored_names()  # after the rows: a row is completed after its file
    return [
        Candidate(
            row.id,
            row.filename,
            row.created_at,
            row.size,
            is_proven=row.is_proven,
            is_drilled=row.is_drilled,
            is_foreign=row.is_foreign,
            is_partial=row.is_partial,
            is_damaged=row.id in damaged,
            is_missing=row.filename not in stored,
            pin=pins.get(row.id),
            hold=holds.get(row.filename, ""),
        )
        for row in rows
    ]


def is_proven() -> ColumnElement[bool]:
    """In a query of backups: whether one was read back completely, or better."""
    has_passed = exists().where(
        Proof.backup_id == _B.id, Proof.result == Result.PASSED, Proof.level >= Level.READ
    )
    return case((_B.proven, true()), else_=has_passed)


def is_drilled() -> ColumnElement[bool]:
    """In a query of backups: whether one has passed a drill."""
    passed = Proof.result == Result.PASSED
    return _B.id.in_(select(Proof.backup_id).where(passed, Proof.level >= Level.RESTORED))


def _facts() -> Select[*tuple[Any, ...]]:
    return select(
        _B.id,
        _B.filename,
        _B.created_at,
        _B.size,
        is_proven().label("is_proven"),
        is_drilled().label("is_drilled"),
        _B.foreign.label("is_foreign"),
        _B.is_partial.label("is_partial"),
    )


def _stored_names() -> set[str]:
    """Where the storage cannot be read, no file counts as there; then none is removed."""
    try:
        return storage().names()
    except StorageError:
        return set()


def _holds(at: datetime) -> dict[str, str]:
    """The backups that restores need, by filename, and why."""
    kept_for = timedelta(seconds=settings().keep_replaced)
    is_pending = Restore.status == Status.PENDING
    saved_lately = and_(Restore.safety_backup.is_not(None), Restore.finished_at > at - kept_for)
    rows = db.session.execute(
        select(Restore.filename, Restore.safety_backup, is_pending.label("is_pending")).where(
            or_(is_pending, saved_lately)
        )
    ).all()
    saved = {row.safety_backup: "made before a restore, to take it back" for row in rows}
    return saved | {row.filename: "being restored" for row in rows if row.is_pending}
