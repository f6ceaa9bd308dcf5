"""Is there room for another backup, or for a database that is restored?"""

import humanize
from sqlalchemy import select

from app.errors import StorageFull
from app.extensions import db
from app.models import DatabaseBackup, Status
from app.postgres.databases import Server
from app.services.databases.configured import DatabaseName, storage

# A guess must not refuse what may fit: a dump can be far smaller than its
# database, which has indexes and bloat too. A disk that fills up after all ends
# the run cleanly.
_FIRST_RATIO = 0.02  # of a database that was never dumped
_OTHER_COMPRESSION = 0.5  # of what the last dump with another compression would say
_WITHOUT_BLOAT = 0.5  # of a database's size, once it is restored


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


def refuse_without_space(
    name: DatabaseName, database_size: int, compression: str, what: str = "this backup"
) -> None:
    """Raise StorageFull where the next dump of this database would not fit."""
    needed, free = expected_size(name, database_size, compression), storage().free_space()
    if needed > free:
        raise StorageFull(
            f"there is no room for {what}: {_told(needed - free)} are missing",
            detail=f"It needs about {_told(needed)}, and {_told(free)} are free in"
            f" {storage().folder}.",
            hint="Delete old backups, free some space, or move BACKSTOP_BACKUP_DIR.",
        )


def refuse_restore_without_space(server: Server, database_size: int | None) -> None:
    """Raise StorageFull where a database of that size is known not to fit on the server.

    One that is restored has no bloat, so it may be far smaller than it was.
    """
    free = server.free_space()
    if database_size and free is not None and database_size * _WITHOUT_BLOAT > free:
        raise StorageFull(
            f"there is no room for the new database: {_told(database_size - free)} are missing",
            detail=f"It needs about {_told(database_size)}, and {_told(free)} are free where the"
            " server keeps its databases.",
            hint="Free some space on the server, or drop databases that nobody needs.",
        )


def tell_room(needed: int | None, free: int | None) -> str:
    """How a restore stands to the room on the server, in a sentence without capital and stop."""
    wanted = f"about {_told(needed)}" if needed else "an unknown size"
    left = f"{_told(free)} are free" if free is not None else "how much is free is not known"
    return f"{wanted} is needed on the server; {left}"


def _told(size: int) -> str:
    return humanize.naturalsize(size, binary=True)
