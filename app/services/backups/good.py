"""The newest good backup of a database, in one definition for all.

A good backup is one of ours, completed and full, with its dump in place and no failed
proof, and is not being deleted.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, func, or_, select

from app.errors import NotFound
from app.extensions import db
from app.models import Database, DatabaseBackup, Status
from app.services.databases.configured import storage
from app.services.proofs.records import failing_backups

_COLUMNS = (
    DatabaseBackup.id,
    DatabaseBackup.database_id,
    DatabaseBackup.filename,
    DatabaseBackup.created_at,
    DatabaseBackup.finished_at,
    or_(
        DatabaseBackup.foreign,
        DatabaseBackup.is_partial,
        DatabaseBackup.delete_requested_at.is_not(None),
    ).label("is_out"),
)
_LOOKED_BACK = 50  # backups of each database, where there are many databases
_AT_ONCE = 20  # rows; usually the first one is good


class NewestGood(NamedTuple):
    """What is asked about the newest good backup of many databases."""

    id: str
    filename: str
    ended_at: datetime


def find_newest_good(of: Database, *, partial: bool = False) -> DatabaseBackup | None:
    """The newest good backup of a database; or of its `partial` ones, which are not good."""
    return next(list_good(of.id, partial=partial), None)


def get_newest_good(of: Database) -> DatabaseBackup:
    """The same. Raises NotFound if there is none."""
    backup = find_newest_good(of)
    if backup is None:
        raise NotFound(
            f"there is no good backup of {of.name} yet", hint="Make one: flask backup create."
        )
    return backup


def list_good(database_id: str, *, partial: bool = False) -> Iterator[DatabaseBackup]:
    """All good backups of a database, newest first; rows are read as needed."""
    chosen = _good_but_for_files(database_id, partial=partial).order_by(
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


def first_good(
    completed: Iterable[DatabaseBackup], failing: Collection[str]
) -> DatabaseBackup | None:
    """The first one of ours, completed, whose dump is in place and that is not `failing`."""
    return next(
        (row for row in completed if row.id not in failing and storage().has(row.filename)), None
    )


def is_good(backup: DatabaseBackup, *, partial: bool = False) -> bool:
    """Whether the backup is good now; or, if it is `partial`, would be but for that."""
    if backup.database_id is None:
        return False
    chosen = _good_but_for_files(backup.database_id, partial=partial)
    same = chosen.where(DatabaseBackup.id == backup.id)
    return db.session.scalar(same) is not None and storage().has(backup.filename)


def newest_good_of_each() -> dict[str, NewestGood | None]:
    """The newest good backup of each database with completed ones, by its id; None without one.

    The number of queries does not depend on the numbers of databases and rows.
    """
    ours = [DatabaseBackup.status == Status.COMPLETED, DatabaseBackup.database_id.is_not(None)]
    if failing := failing_backups():
        ours.append(DatabaseBackup.id.not_in(failing))
    newest = (
        select(func.max(DatabaseBackup.created_at))
        .where(*ours)
        .group_by(DatabaseBackup.database_id)
    )
    newest_of = _first_good(select(*_COLUMNS).where(*ours, DatabaseBackup.created_at.in_(newest)))
    lacking = [database_id for database_id, good in newest_of.items() if good is None]
    number = func.row_number().over(
        partition_by=DatabaseBackup.database_id, order_by=DatabaseBackup.created_at.desc()
    )
    others = (
        select(*_COLUMNS, number.label("number"))
        .where(*ours, DatabaseBackup.database_id.in_(lacking))
        .subquery()
    )
    return newest_of | _first_good(
        select(*(others.c[column.name] for column in _COLUMNS))
        .where(others.c.number <= _LOOKED_BACK)
        .order_by(others.c.number)
    )


def _first_good(chosen: Select[*tuple[Any, ...]]) -> dict[str, NewestGood | None]:
    """The first good backup of each database."""
    first: dict[str, NewestGood | None] = {}
    for row in db.session.execute(chosen):
        if first.setdefault(row.database_id, None) is not None or row.is_out:
            continue
        if storage().has(row.filename):
            ended_at = row.finished_at or row.created_at
            first[row.database_id] = NewestGood(row.id, row.filename, ended_at)
    return first


def find_newest_bad(of: Database, good: DatabaseBackup | None) -> DatabaseBackup | None:
    """The newest backup of a database after `good` whose proof failed."""
    if not (failing := failing_backups(of.id)):
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
    return bool(left_without([backup]))


def left_without(backups: Collection[DatabaseBackup]) -> list[str]:
    """The databases that have a good backup, and none but these; asked before they are deleted."""
    chosen = {backup.id for backup in backups}
    names = {row.database_id: row.database for row in backups if row.database_id and is_good(row)}
    return [
        name
        for database_id, name in names.items()
        if all(other.id in chosen for other in list_good(database_id))
    ]


def _good_but_for_files(database_id: str, *, partial: bool = False) -> Select[DatabaseBackup]:
    return select(DatabaseBackup).where(
        DatabaseBackup.database_id == database_id,
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.delete_requested_at.is_(None),
        DatabaseBackup.foreign.is_(False),
        DatabaseBackup.is_partial.is_(partial),
        DatabaseBackup.id.not_in(failing_backups(database_id)),
    )
