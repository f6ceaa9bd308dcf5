"""Find one backup by its name, or list many."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.orm import aliased, undefer

from app.errors import InvalidInput, NotFound
from app.extensions import db
from app.models import DatabaseBackup, Status
from app.services.backups.filters import Filters, Order, after_cursor, cursor_after, in_order
from app.services.databases.configured import storage
from app.storages.local import NAME

MAX_LIMIT = 200  # backups in one answer

ALL = Filters()
IS_VISIBLE = DatabaseBackup.delete_requested_at.is_(None)


@dataclass(frozen=True)
class Page:
    """Some backups, and the cursor of those that follow."""

    backups: list[DatabaseBackup]
    next_before: str | None


def list_backups(
    filters: Filters = ALL,
    *,
    limit: int = 50,
    before: str | None = None,
    order: Order = Order.NEWEST,
) -> Page:
    """The first backups that pass the filters, at most `limit`.

    `before` is the `next_before` of a page in the same order. Raises InvalidInput for an invalid
    limit or cursor.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}")
    conditions = [IS_VISIBLE, *filters.conditions]
    if before:
        conditions.append(after_cursor(before, order))
    # The ids first: most filters find them in an index, without reading the wide rows.
    ids = in_order(select(DatabaseBackup.id).where(*conditions), order).limit(limit + 1)
    rows = select(DatabaseBackup).where(DatabaseBackup.id.in_(ids))
    backups = list(db.session.scalars(in_order(rows, order)))
    shown = backups[:limit]
    more = len(backups) > limit
    return Page(shown, cursor_after(shown[-1], order) if more else None)


def sizes_before(backups: Collection[DatabaseBackup]) -> dict[str, int]:
    """The size of the completed full backup before each of these, by the id of these."""
    older = aliased(DatabaseBackup)
    before = (
        select(older.size)
        .where(
            older.status == Status.COMPLETED,
            older.database_id == DatabaseBackup.database_id,
            older.created_at < DatabaseBackup.created_at,
            older.is_partial.is_(False),
            older.foreign.is_(False),
        )
        .order_by(older.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    comparable = [row.id for row in backups if row.is_completed and not row.is_partial]
    rows = db.session.execute(
        select(DatabaseBackup.id, before.label("size")).where(DatabaseBackup.id.in_(comparable))
    )
    return {row.id: row.size for row in rows if row.size}


def get_backup(filename: str) -> DatabaseBackup:
    """The backup with this name, and its log. Raises NotFound."""
    by_name = (
        _visible()
        .where(DatabaseBackup.filename == filename)
        .options(undefer(DatabaseBackup.log))
        .execution_options(populate_existing=True)
    )
    backup = db.session.scalar(by_name) if NAME.fullmatch(filename) else None
    if backup is None:
        raise NotFound("no backup has this name", hint="The list shows all names.")
    return backup


def get_backups(filenames: Collection[str]) -> list[DatabaseBackup]:
    """The backups with these names, newest first; names that no backup has are left out."""
    chosen = _visible().where(DatabaseBackup.filename.in_(filenames))
    return list(db.session.scalars(in_order(chosen, Order.NEWEST)))


def has_row(filename: str) -> bool:
    """Whether a backup of this name has a row, also while it is being deleted."""
    chosen = select(DatabaseBackup.id).where(DatabaseBackup.filename == filename)
    return db.session.scalar(chosen) is not None


def has_dump(filename: str) -> bool:
    """Whether a dump of this name is in place."""
    return storage().has(filename)


def has_file(backup: DatabaseBackup) -> bool:
    """Whether the dump of a completed backup is in place."""
    return backup.is_completed and storage().has(backup.filename)


def _visible() -> Select[DatabaseBackup]:
    return select(DatabaseBackup).where(IS_VISIBLE)
