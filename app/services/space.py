"""Is there room for another backup?"""

import humanize
from sqlalchemy import select

from app.errors import StorageFull
from app.extensions import db
from app.models import DatabaseBackup, Status
from app.services.databases import DatabaseName, storage

# A guess must not refuse what may fit: a dump can be far smaller than its
# database, which has indexes and bloat too. A disk that fills up after all ends
# the run cleanly.
_FIRST_RATIO = 0.02  # of a database that was never dumped
_OTHER_COMPRESSION = 0.5  # of what the last dump with another compression would say


def expected_size(name: DatabaseName, database_size: int, compression: str) -> int:
    """How large the next dump will about be, in bytes: as the last one was."""
    ended = select(
        DatabaseBackup.size, DatabaseBackup.database_size, DatabaseBackup.compression
    ).where(
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.server == name.server,
        DatabaseBackup.database == name.database,
        DatabaseBackup.database_size > 0,
    )
    last = db.session.execute(ended.order_by(DatabaseBackup.created_at.desc()).limit(1)).first()
    db.session.commit()
    if last is None:
        return round(database_size * _FIRST_RATIO)
    likeness = 1 if last.compression == compression else _OTHER_COMPRESSION
    return int(database_size * likeness * last.size / last.database_size)


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
