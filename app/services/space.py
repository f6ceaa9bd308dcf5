"""Is there room for another backup?"""

import humanize
from sqlalchemy import select

from app.errors import StorageFull
from app.extensions import db
from app.models import BackupStatus, DatabaseBackup
from app.services.databases import DatabaseName, storage

# Of a database that was never dumped: what zstd made of a shop; text shrinks more.
_FIRST_RATIO = {"none": 0.8}
_USUAL_FIRST_RATIO = 0.2
_MARGIN = 1.1  # databases change


def expected_size(name: DatabaseName, database_size: int, compression: str) -> int:
    """How large the next dump will about be, in bytes: as the last one like it was."""
    last = db.session.execute(
        select(DatabaseBackup.size, DatabaseBackup.database_size)
        .where(
            DatabaseBackup.status == BackupStatus.COMPLETED,
            DatabaseBackup.server == name.server,
            DatabaseBackup.database == name.database,
            DatabaseBackup.compression == compression,
            DatabaseBackup.database_size > 0,
        )
        .order_by(DatabaseBackup.created_at.desc())
        .limit(1)
    ).first()
    db.session.commit()
    if last is None:
        ratio = _FIRST_RATIO.get(compression.partition(":")[0], _USUAL_FIRST_RATIO)
    else:
        ratio = last.size / last.database_size
    return round(database_size * ratio * _MARGIN)


def refuse_without_space(name: DatabaseName, database_size: int, compression: str) -> None:
    """Raise StorageFull where the next dump of this database would not fit."""
    needed, free = expected_size(name, database_size, compression), storage().free_space()
    if needed > free:
        missing = humanize.naturalsize(needed - free, binary=True)
        raise StorageFull(
            f"there is no room for this backup: {missing} are missing",
            detail=f"It needs about {humanize.naturalsize(needed, binary=True)}, and"
            f" {humanize.naturalsize(free, binary=True)} are free in {storage().folder}.",
            hint="Delete old backups, free some space, or move BACKSTOP_BACKUP_DIR.",
        )
