"""The newest good backup of a database: the one definition that everybody uses.

Good is a backup that we have made and completed, that nobody deletes, whose
dump is where it should be, and against which no proof speaks.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, func, or_, select, tuple_

from app.errors import NotFound
from app.extensions import db
from app.models import DatabaseBackup, Status
from app.services.backups.queue import FOREIGN
from app.services.databases.configured import DatabaseName, database_name, storage
from app.services.proofs.records import failing_backups

_NAME = (DatabaseBackup.server, DatabaseBackup.database)
_ENDED = (
    *_NAME,
    DatabaseBackup.filename,
    DatabaseBackup.created_at,
    DatabaseBackup.finished_at,
    (DatabaseBackup.foreign | DatabaseBackup.delete_requested_at.is_not(None)).label("is_out"),
)
_LOOKED_BACK = 50  # of each database, where many are looked at
_AT_ONCE = 20  # rows; most often the first one is good


def find_newest_good(of: DatabaseName | None = None) -> DatabaseBackup | None:
    """What a restore would use; of the configured database where none is named."""
    return next(list_good(of or database_name()), None)


def get_newest_good(of: DatabaseName | None = None) -> DatabaseBackup:
    """The same. Raises NotFound where there is none."""
    backup = find_newest_good(of)
    if backup is None:
        raise NotFound("there is no good backup yet", hint="Make one: flask backup create.")
    return backup


def list_good(of: DatabaseName) -> Iterator[DatabaseBackup]:
    """All good backups of a database, newest first, read as far as they are asked for."""
    chosen = _good_but_for_files(of).order_by(
        DatabaseBackup.created_at.desc(), DatabaseBackup.id.desc()
    )
    older = chosen
    while rows := list(db.session.scalars(older.limit(_AT_ONCE))):
        moment, last_id = rows[-1].created_at, rows[-1].id
        yield from (each for each in rows if storage().has(each.filename))
        older = chosen.where(
            or_(
                DatabaseBackup.created_at < moment,
                and_(DatabaseBackup.created_at == moment, DatabaseBackup.id < last_id),
            )
        )


def is_good(backup: DatabaseBackup) -> bool:
    """Whether it is good just now."""
    of = DatabaseName(backup.server, backup.database)
    asked = _good_but_for_files(of).where(DatabaseBackup.id == backup.id)
    return db.session.scalar(asked) is not None and storage().has(backup.filename)


def last_good_of_each() -> dict[DatabaseName, datetime | None]:
    """When the newest good backup of each database had ended; None where none is good.

    The number of queries does not grow with databases or rows.
    """
    ours = [DatabaseBackup.status == Status.COMPLETED, DatabaseBackup.server != FOREIGN]
    if failing := failing_backups():
        ours.append(DatabaseBackup.id.not_in(failing))
    newest = select(func.max(DatabaseBackup.created_at)).where(*ours).group_by(*_NAME)
    found = _ended(select(*_ENDED).where(*ours, DatabaseBackup.created_at.in_(newest)))
    lacking = [name for name, ended in found.items() if ended is None]
    number = func.row_number().over(partition_by=_NAME, order_by=DatabaseBackup.created_at.desc())
    others = (
        select(*_ENDED, number.label("number")).where(*ours, tuple_(*_NAME).in_(lacking)).subquery()
    )
    return found | _ended(
        select(*(others.c[each.name] for each in _ENDED))
        .where(others.c.number <= _LOOKED_BACK)
        .order_by(others.c.number)
    )


def _ended(chosen: Select[*tuple[Any, ...]]) -> dict[DatabaseName, datetime | None]:
    """The first of each database that is good, when it had ended."""
    found: dict[DatabaseName, datetime | None] = {}
    for row in db.session.execute(chosen):
        name = DatabaseName(row.server, row.database)
        if found.setdefault(name, None) is None:
            is_good = not row.is_out and storage().has(row.filename)
            found[name] = (row.finished_at or row.created_at) if is_good else None
    return found


def find_newest_bad(good: DatabaseBackup | None) -> DatabaseBackup | None:
    """A backup of the configured database, newer than its `good` one, whose proof has failed."""
    if not (failing := failing_backups(database_name())):
        return None
    failed = select(DatabaseBackup).where(
        DatabaseBackup.id.in_(failing),
        DatabaseBackup.delete_requested_at.is_(None),
        DatabaseBackup.foreign.is_(False),
    )
    if good is not None:
        failed = failed.where(DatabaseBackup.created_at > good.created_at)
    return db.session.scalar(failed.order_by(DatabaseBackup.created_at.desc()).limit(1))


def is_last_good(backup: DatabaseBackup) -> bool:
    """Whether no other good backup of its database would be left: who deletes it must know."""
    others = (
        each
        for each in list_good(DatabaseName(backup.server, backup.database))
        if each.id != backup.id
    )
    return is_good(backup) and next(others, None) is None


def _good_but_for_files(of: DatabaseName) -> Select[DatabaseBackup]:
    return select(DatabaseBackup).where(
        DatabaseBackup.server == of.server,
        DatabaseBackup.database == of.database,
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.delete_requested_at.is_(None),
        DatabaseBackup.foreign.is_(False),
        DatabaseBackup.id.not_in(failing_backups(of)),
    )
