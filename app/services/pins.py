"""Pins: backups that no rule removes, and that nobody deletes before they are unpinned."""

import logging

from sqlalchemy import Select, select

from app.errors import Conflict, InvalidInput
from app.extensions import db, writing
from app.models import DatabaseBackup, Status
from app.models.types import now
from app.services.listing import get_backup, has_file
from app.services.manifests import MAX_PIN_REASON
from app.services.outcomes import renew_manifest
from app.services.proofs import best_proofs

logger = logging.getLogger(__name__)

_LOOKED_AT = 50  # other backups, of which one must be good


def pin_backup(filename: str, reason: str, *, by: str) -> DatabaseBackup:
    """Exempt a completed backup from every retention rule; a second pin replaces the first.

    Raises NotFound, InvalidInput for a reason that is none, Conflict if the
    backup is not COMPLETED.
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_PIN_REASON or not reason.isprintable():
        raise InvalidInput(
            f"the reason must have 1 to {MAX_PIN_REASON} printable characters",
            hint="Say why it is kept, for whoever finds it in a year.",
        )
    return _set(filename, reason, by)


def unpin_backup(filename: str, *, by: str) -> DatabaseBackup:
    """Let the rules have a backup again; one that is not pinned stays so. Raises NotFound."""
    return _set(filename, "", by)


def refuse_pinned(backup: DatabaseBackup) -> None:
    """Raise Conflict if the backup is pinned."""
    if backup.is_pinned:
        raise Conflict(
            f"{backup.filename} is pinned: unpin it first",
            detail=f"The reason of the pin: {backup.pin_reason}.",
            hint="Unpin it on its page, by DELETE …/pin, or with flask backup unpin.",
        )


def is_last_good(backup: DatabaseBackup) -> bool:
    """Whether no other good backup of its database would be left: what those who delete must know.

    Good is what is ours, has its file, and has not failed a proof.
    """
    if backup.foreign or not has_file(backup):
        return False
    others = list(db.session.scalars(_others_of(backup)))
    best = best_proofs([backup, *others])
    failed = {backup_id for backup_id, proof in best.items() if proof.is_failed}
    return backup.id not in failed and not any(
        each.id not in failed and has_file(each) for each in others
    )


def _set(filename: str, reason: str, by: str) -> DatabaseBackup:
    with writing():
        backup = get_backup(filename)
        if reason and not backup.is_completed:
            raise Conflict(f"{filename} is {backup.status.value} and has no dump to keep")
        backup.pin_reason = reason
        backup.pinned_at = now() if reason else None
        backup.pinned_by = by[:255] if reason else ""
        backup.manifest_stale = backup.is_completed
        backup_id = backup.id
    renew_manifest(backup_id)
    logger.info("backup %s filename=%s by=%r", "pinned" if reason else "unpinned", filename, by)
    return get_backup(filename)


def _others_of(backup: DatabaseBackup) -> Select[DatabaseBackup]:
    """The newest other completed backups of the same database."""
    return (
        select(DatabaseBackup)
        .where(
            DatabaseBackup.server == backup.server,
            DatabaseBackup.database == backup.database,
            DatabaseBackup.status == Status.COMPLETED,
            DatabaseBackup.delete_requested_at.is_(None),
            DatabaseBackup.foreign.is_(False),
            DatabaseBackup.id != backup.id,
        )
        .order_by(DatabaseBackup.created_at.desc())
        .limit(_LOOKED_AT)
    )
