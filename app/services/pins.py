"""Pins: backups that no rule removes, and that nobody deletes in passing."""

import logging

from sqlalchemy import select

from app.errors import Conflict, Forbidden, InvalidInput
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


def why_precious(backup: DatabaseBackup) -> str:
    """Why this one is not deleted without a second thought; empty if it is."""
    if backup.is_pinned:
        return f"it is pinned: {backup.pin_reason}"
    if _is_last_good(backup):
        return f"it is the last good backup of {backup.database}"
    return ""


def refuse_precious(backup: DatabaseBackup) -> None:
    """Raise Forbidden if a backup is not deleted without a second thought."""
    why = why_precious(backup)
    if why:
        raise Forbidden(
            f"{backup.filename} is not deleted just like that: {why}",
            hint='Confirm it: the API wants {"password": "…"}, the terminal --yes-really.',
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


def _is_last_good(backup: DatabaseBackup) -> bool:
    if backup.foreign or not has_file(backup):
        return False
    newest = (
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
    others = list(db.session.scalars(newest))
    best = best_proofs([backup, *others])
    failed = {backup_id for backup_id, proof in best.items() if proof.is_failed}
    if backup.id in failed:
        return False
    return not any(each.id not in failed and has_file(each) and _stays(each) for each in others)


def _stays(backup: DatabaseBackup) -> bool:
    """Whether nobody deletes it just now; it is held until our own transaction ends."""
    found = db.session.get(DatabaseBackup, backup.id, with_for_update=True, populate_existing=True)
    return found is not None and found.delete_requested_at is None
