"""What a list of backups is narrowed to, and in which order it comes."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, and_, exists, or_
from sqlalchemy.orm import InstrumentedAttribute

from app.errors import InvalidInput
from app.extensions import MAX_SEARCHED, containing
from app.models import Copy, Database, DatabaseBackup, Level, Proof, Result, Status, Trigger
from app.models.types import moment_text
from app.services.audit.search import read_time
from app.services.databases.lookup import get_database
from app.services.proofs.records import failing_backups

T = TypeVar("T", DatabaseBackup, str)

_SEARCHED = (
    DatabaseBackup.filename,
    DatabaseBackup.database,
    DatabaseBackup.notes,
    DatabaseBackup.pin_reason,
)


class Proven(enum.Enum):
    """How far a backup is proven."""

    RESTORED = "restored"
    READ = "read"  # read back whole, but never restored
    FAILED = "failed"
    NOT = "not"


class Order(enum.Enum):
    """The order of a list of backups."""

    NEWEST = "newest"
    OLDEST = "oldest"
    LARGEST = "largest"


@dataclass(frozen=True)
class Filters:
    """Which backups are listed; a filter that is None, False or empty lets all pass."""

    database: Database | None = None
    status: Status | None = None
    proven: Proven | None = None
    trigger: Trigger | None = None
    is_pinned: bool = False
    lacks_copy: bool = False  # completed, and no store has a good copy of it
    since: datetime | None = None
    until: datetime | None = None  # exclusive
    query: str = ""  # in names, databases, notes and pins, ignoring case

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """The same as conditions of a query."""
        backup = DatabaseBackup
        conditions = [
            column == value
            for column, value in (
                (backup.database_id, self.database and self.database.id),
                (backup.status, self.status),
                (backup.trigger, self.trigger),
            )
            if value is not None
        ]
        if self.proven is not None:
            conditions.append(_proven(self.proven))
        if self.is_pinned:
            conditions.append(backup.pinned_at.is_not(None))
        if self.lacks_copy:
            copied = exists().where(
                Copy.backup_id == backup.id, Copy.good(), Copy.removed_at.is_(None)
            )
            conditions.append(and_(backup.status == Status.COMPLETED, ~copied))
        if self.since is not None:
            conditions.append(backup.created_at >= self.since)
        if self.until is not None:
            conditions.append(backup.created_at < self.until)
        if query := self.query.replace("\0", ""):  # PostgreSQL has no such character
            conditions.append(or_(*(containing(column, query) for column in _SEARCHED)))
        return conditions


# The values of each parameter that has a choice of them.
CHOICES = {
    "status": [status.value for status in Status],
    "proof": [proven.value for proven in Proven],
    "trigger": [trigger.value for trigger in Trigger],
    "pinned": ["yes"],
    "copy": ["missing"],
    "sort": [order.value for order in Order],
}
WORDS = ("database", *CHOICES, "from", "to", "q")


def read_filters(query: Mapping[str, str | None], zone: tzinfo = UTC) -> tuple[Filters, Order]:
    """Filters and order from the parameters of a query, `WORDS`.

    Times are ISO 8601, in `zone` unless they name another; a date as `to` includes that day. Raises
    InvalidInput, NotFound for an unknown database.
    """
    words = {name: (query.get(name) or "").strip() for name in WORDS}
    for name, choices in CHOICES.items():
        if words[name] and words[name] not in choices:
            raise InvalidInput(f"{name} must be one of {', '.join(choices)}")
    if len(words["q"]) > MAX_SEARCHED:
        raise InvalidInput(f"q has at most {MAX_SEARCHED} characters")
    filters = Filters(
        database=get_database(words["database"]) if words["database"] else None,
        status=Status(words["status"]) if words["status"] else None,
        proven=Proven(words["proof"]) if words["proof"] else None,
        trigger=Trigger(words["trigger"]) if words["trigger"] else None,
        is_pinned=bool(words["pinned"]),
        lacks_copy=bool(words["copy"]),
        since=read_time(words["from"], "from", zone),
        until=read_time(words["to"], "to", zone),
        query=words["q"],
    )
    return filters, Order(words["sort"] or Order.NEWEST)


def _proven(proven: Proven) -> ColumnElement[bool]:
    failing = DatabaseBackup.id.in_(failing_backups())
    if proven is Proven.FAILED:
        return failing
    restored, read = _passed(Level.RESTORED), _passed(Level.READ)
    if proven is Proven.RESTORED:
        return and_(restored, ~failing)
    if proven is Proven.READ:
        return and_(read, ~restored, ~failing)
    unproven = DatabaseBackup.proven.is_(False)  # quicker than asking for the proofs of each
    return and_(DatabaseBackup.status == Status.COMPLETED, unproven, ~read, ~failing)


def _passed(level: Level) -> ColumnElement[bool]:
    """Whether a proof of this level, or a higher one, has passed."""
    return exists().where(
        Proof.backup_id == DatabaseBackup.id,
        Proof.result == Result.PASSED,
        Proof.level >= level,
    )


def in_order(chosen: Select[T], order: Order) -> Select[T]:
    """The query in this order, in which no two rows are equal."""
    key, last = _key(order), DatabaseBackup.id
    if order is Order.OLDEST:
        return chosen.order_by(key, last)
    return chosen.order_by(key.desc(), last.desc())


def cursor_after(backup: DatabaseBackup, order: Order) -> str:
    """The cursor of what follows this backup."""
    key = str(backup.size) if order is Order.LARGEST else moment_text(backup.created_at)
    return f"{key}~{backup.id}"


def after_cursor(cursor: str, order: Order) -> ColumnElement[bool]:
    """A condition on what follows the cursor in this order. Raises InvalidInput."""
    text, _, last_id = cursor.replace("\0", "").partition("~")
    value: int | datetime
    try:
        if order is Order.LARGEST:
            value = min(max(int(text[:20]), 0), 2**63 - 1)
        else:
            value = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            "before is not a cursor", hint="Take it from nextBefore in the previous answer."
        ) from error
    key, last = _key(order), DatabaseBackup.id
    if order is Order.OLDEST:
        return or_(key > value, and_(key == value, last > last_id))
    return or_(key < value, and_(key == value, last < last_id))


def _key(order: Order) -> InstrumentedAttribute[int] | InstrumentedAttribute[datetime]:
    return DatabaseBackup.size if order is Order.LARGEST else DatabaseBackup.created_at
