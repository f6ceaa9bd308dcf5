"""Pins: no rule removes a pinned backup, and nobody deletes it before it is unpinned."""

import logging

from app.errors import Conflict, InvalidInput
from app.extensions import writing
from app.models import DatabaseBackup
from app.models.types import now
from app.services.audit.acting import acting
from app.services.backups.listing import get_backup
from app.services.backups.manifests import MAX_PIN_REASON
from app.services.backups.publication import renew_manifest

logger = logging.getLogger(__name__)


@acting
def pin_backup(filename: str, reason: str, *, by: str) -> DatabaseBackup:
    """Exempt a completed backup from every retention rule; a second pin replaces the first.

    Raises NotFound, InvalidInput for an invalid reason, Conflict if the backup is not
    COMPLETED.
    """
    return _set(filename, clean_reason(reason), by)


def clean_reason(reason: str) -> str:
    """The reason for a pin. Raises InvalidInput."""
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_PIN_REASON or not reason.isprintable():
        raise InvalidInput(
            f"the reason must have 1 to {MAX_PIN_REASON} printable characters",
            hint="Say why it is kept, for those who find it in a year.",
        )
    return reason


@acting
def unpin_backup(filename: str, *, by: str) -> DatabaseBackup:
    """Make a backup subject to the retention rules again. Raises NotFound."""
    return _set(filename, "", by)


def refuse_pinned(backup: DatabaseBackup) -> None:
    """Raise Conflict if the backup is pinned."""
    if backup.is_pinned:
        raise Conflict(
            f"{backup.filename} is pinned: unpin it first",
            detail=f"The reason for the pin: {backup.pin_reason}.",
            hint="Unpin it on its page, by DELETE …/pin, or with flask backup unpin.",
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
