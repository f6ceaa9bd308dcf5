"""The newest good backup of a database, in one definition for all.

A good backup is one of ours, completed, with its dump in place and no failed proof, and
is not being deleted.
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
_LOOKED_BACK = 50  # backups of each database, where there are many databases
_AT_ONCE = 20  # rows; usually the first one is good


def find_newest_good(of: DatabaseName | None = None) -> DatabaseBackup | None:
    """The newest good backup of a database, by default of the configured one."""
    return next(list_good(of or database_name()), None)


def get_newest_good(of: DatabaseName | None = None) -> DatabaseBackup:
    """The same. Raises NotFound if there is none."""
    backup = find_newest_good(of)
    if backup is None:
        raise NotFound("there is no good backup yet", hint="Make one: flask backup create.")
    return backup


def list_good(of: DatabaseName) -> Iterator[DatabaseBackup]:
    """All good backups of a database, newest first; rows are read as needed."""
    chosen = _good_but_for_files(of).order_by(
        DatabaseBackup.created_at.desc(), DatabaseBackup.id.desc()
    )
    older = chosen
    while rows := list(db.session.scalars(older.limit(_AT_ONCE))):
        moment, last_id = rows[-1].created_at, rows[-1].id
        yield from (backup for backup in rows if storage().has(backup.filename))
        older = chosen.where(
            or_(
                DatabaseBackup.created_at < moment,
                and_(DatabaseBackup.created_at == moment, DatabaseBackup.id < last_id),
            )
        )


def is_good(backup: DatabaseBackup) -> bool:
    """Whether the backup is good now."""
    of = DatabaseName(backup.server, backup.database)
    same = _good_but_for_files(of).where(DatabaseBackup.id == backup.id)
    return db.session.scalar(same) is not None and storage().has(backup.filename)


def last_good_of_each() -> dict[DatabaseName, datetime | None]:
    """When the newest good backup of each database ended; None without one.

    The number of queries does not depend on the numbers of databases and rows.
    """
    ours = [DatabaseBackup.status == Status.COMPLETED, DatabaseBackup.server != FOREIGN]
    if failing := failing_backups():
        ours.append(DatabaseBackup.id.not_in(failing))
    newest = select(func.max(DatabaseBackup.created_at)).where(*ours).group_by(*_NAME)
    ended_at = _ended(select(*_ENDED).where(*ours, DatabaseBackup.created_at.in_(newest)))
    lacking = [name for name, ended in ended_at.items() if ended is None]
    number = func.row_number().over(partition_by=_NAME, order_by=DatabaseBackup.created_at.desc())
    others = (
        select(*_ENDED, number.label("number")).where(*ours, tuple_(*_NAME).in_(lacking)).subquery()
    )
    return ended_at | _ended(
        select(*(others.c[column.name] for column in _ENDED))
        .where(others.c.number <= _LOOKED_BACK)
        .order_by(others.c.number)
    )


def _ended(chosen: Select[*tuple[Any, ...]]) -> dict[DatabaseName, datetime | None]:
    """When the first good backup of each database ended."""
    ended_at: dict[DatabaseName, datetime | None] = {}
    for row in db.session.execute(chosen):
        name = DatabaseName(row.server, row.database)
        if ended_at.setdefault(name, None) is None:
            is_good = not row.is_out and storage().has(row.filename)
            ended_at[name] = (row.finished_at or row.created_at) if is_good else None
    return ended_at


def find_newest_bad(good: DatabaseBackup | None) -> DatabaseBackup | None:
    """The newest backup of the configured database after `good` whose proof failed."""
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
    """Whether its database has no other good backup; asked before it is deleted."""
    others = (
        other
        for other in list_good(DatabaseName(backup.server, backup.database))
        if other.id != backup.id
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
