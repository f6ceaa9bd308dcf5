"""The room for another backup, or for a restored database."""

import humanize
from sqlalchemy import select

from app.errors import StorageFull
from app.extensions import db
from app.models import Database, DatabaseBackup, Status
from app.postgres.databases import Server
from app.services.databases.configured import storage

# An estimate must not refuse what may fit: a dump can be far smaller than its database,
# with its indexes and bloat. A full disk still ends a run cleanly.
_FIRST_RATIO = 0.02  # of the size of a database that was never dumped
_OTHER_COMPRESSION = 0.5  # of an estimate from a dump with another compression
_WITHOUT_BLOAT = 0.5  # of the size of a database, once it is restored


def expected_size(database: Database, database_size: int, compression: str) -> int:
    """The likely size of the next dump in bytes, judged by the last one."""
    completed = select(
        DatabaseBackup.size, DatabaseBackup.database_size, DatabaseBackup.compression
    ).where(
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.database_id == database.id,
        DatabaseBackup.database_size > 0,
    )
    last = db.session.execute(completed.order_by(DatabaseBackup.created_at.desc()).limit(1)).first()
    db.session.commit()
    if last is None:
        return round(database_size * _FIRST_RATIO)
    likeness = 1 if last.compression == compression else _OTHER_COMPRESSION
    return int(database_size * likeness * last.size / last.database_size)


def refuse_without_space(
    database: Database, database_size: int, compression: str, what: str = "this backup"
) -> None:
    """Raise StorageFull if the next dump of this database would not fit."""
    needed, free = expected_size(database, database_size, compression), storage().free_space()
    if needed > free:
        raise StorageFull(
            f"there is no room for {what}: {_size(needed - free)} are missing",
            detail=f"It needs about {_size(needed)}, and {_size(free)} are free in"
            f" {storage().folder}.",
            hint="Delete old backups, free some space, or move BACKSTOP_BACKUP_DIR.",
        )


def refuse_restore_without_space(server: Server, database_size: int | None) -> None:
    """Raise StorageFull if a database of that size will not fit on the server.

    A restored database has no bloat, so it may be far smaller than it was.
    """
    free = server.free_space()
    if database_size and free is not None and database_size * _WITHOUT_BLOAT > free:
        raise StorageFull(
            f"there is no room for the new database: {_size(database_size - free)} are missing",
            detail=f"It needs about {_size(database_size)}, and {_size(free)} are free where the"
            " server keeps its databases.",
            hint="Free some space on the server, or drop databases that nobody needs.",
        )


def tell_room(needed: int | None, free: int | None) -> str:
    """The room that a restore needs and the server has, as the end of a sentence."""
    wanted = f"about {_size(needed)}" if needed else "an unknown size"
    left = f"{_size(free)} are free" if free is not None else "how much is free is not known"
    return f"{wanted} is needed on the server; {left}"


def _size(size: int) -> str:
    return humanize.naturalsize(size, binary=True)
