"""Find one backup by its name, or list many, newest first."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import undefer

from app.errors import InvalidInput, NotFound
from app.extensions import containing, db
from app.models import Database, DatabaseBackup, Status
from app.models.types import moment_text
from app.services.databases.configured import storage
from app.storages.local import NAME

MAX_LIMIT = 200  # backups in one answer


_SEARCHED = (
    DatabaseBackup.filename,
    DatabaseBackup.database,
    DatabaseBackup.notes,
    DatabaseBackup.pin_reason,
)


@dataclass(frozen=True)
class Page:
    """Some backups, newest first, and the cursor of the next older ones."""

    backups: list[DatabaseBackup]
    next_before: str | None


def list_backups(
    of: Database | None = None,
    *,
    limit: int = 50,
    before: str | None = None,
    status: Status | None = None,
    query: str = "",
) -> Page:
    """The newest backups of one or all databases, at most `limit`.

    `before` is the `next_before` of a page.

    `query` is searched in names, databases, notes and pins, ignoring case. Raises
    InvalidInput for an invalid limit or cursor.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}")
    chosen = _visible().order_by(DatabaseBackup.created_at.desc(), DatabaseBackup.id.desc())
    if of is not None:
        chosen = chosen.where(DatabaseBackup.database_id == of.id)
    if status is not None:
        chosen = chosen.where(DatabaseBackup.status == status)
    query = query.replace("\0", "")  # PostgreSQL has no such character
    if query:
        chosen = chosen.where(or_(*(containing(column, query) for column in _SEARCHED)))
    if before:
        moment, last_id = _cursor(before)
        chosen = chosen.where(
            or_(
                DatabaseBackup.created_at < moment,
                and_(DatabaseBackup.created_at == moment, DatabaseBackup.id < last_id),
            )
        )
    backups = list(db.session.scalars(chosen.limit(limit + 1)))
    shown = backups[:limit]
    more = len(backups) > limit
    return Page(shown, f"{moment_text(shown[-1].created_at)}~{shown[-1].id}" if more else None)


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
    return select(DatabaseBackup).where(DatabaseBackup.delete_requested_at.is_(None))


def _cursor(before: str) -> tuple[datetime, str]:
    moment, _, last_id = before.replace("\0", "").partition("~")
    try:
        return datetime.fromisoformat(moment).astimezone(), last_id
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            "before is not a cursor", hint="Take it from nextBefore in the previous answer."
        ) from error
