"""Trust backups that are foreign because their manifest was not signed by this panel."""

import logging

from app.errors import Conflict, VerificationError
from app.extensions import db, writing
from app.models import DatabaseBackup
from app.services.audit.acting import acting, tell
from app.services.backups.listing import get_backup
from app.services.backups.publication import renew_manifest
from app.services.databases.configured import storage
from app.services.proofs.records import record_reading
from app.storages import sha256_of

logger = logging.getLogger(__name__)


def can_be_trusted(backup: DatabaseBackup) -> bool:
    """Whether the backup is foreign only for lack of a signature."""
    return backup.foreign and "unsigned" in (backup.contents or {})


@acting
def trust_backup(filename: str, *, by: str) -> None:
    """Make a backup one of ours by its unsigned manifest, after comparing the checksum.

    From then on a restore may load parts of it with a superuser's rights. Raises NotFound,
    Conflict if it cannot be trusted, VerificationError, StorageError.
    """
    backup = get_backup(filename)
    expected = backup.size, backup.sha256
    _refuse(backup)
    db.session.commit()
    with storage().open(filename) as file:
        if (file.seek(0, 2), file.seek(0) or sha256_of(file)) != expected:
            raise VerificationError(f"{filename} does not match its manifest")
    with writing() as session:
        backup = get_backup(filename)
        _refuse(backup)
        backup.foreign, backup.contents = False, (backup.contents or {})["unsigned"]
        backup.manifest_stale = True
        record_reading(session, backup)
        backup_id = backup.id
    renew_manifest(backup_id)
    tell(subject=filename, detail="trusted as one of ours")
    logger.info("backup trusted filename=%s by=%r", filename, by)


def _refuse(backup: DatabaseBackup) -> None:
    if not can_be_trusted(backup):
        raise Conflict(
            f"{backup.filename} was {'imported' if backup.foreign else 'made by this panel'}",
            hint="Only a backup that was adopted with an unsigned manifest can be trusted.",
        )
