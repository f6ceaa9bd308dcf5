"""What an admin wants to know first: whether the databases are protected, and what goes on."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeVar

from sqlalchemy import Select, func, select

from app.errors import InvalidInput, StorageError
from app.extensions import db
from app.models import (
    AuditEntry,
    Copy,
    DatabaseBackup,
    Kind,
    Notifier,
    Restore,
    Schedule,
    State,
    Status,
    Store,
    Task,
)
from app.models.types import now
from app.services.audit.search import list_entries
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database
from app.services.health.days import Day, days_of
from app.services.health.growth import Growth, read_growth
from app.services.health.overview import Row, read_overview
from app.services.stores.lookup import Row as StoreRow
from app.services.stores.lookup import list_rows

J = TypeVar("J", DatabaseBackup, Restore)

_COMING = 5  # schedules
_RECENT = 6  # acts
_SHOWN = 12  # databases
_RUNNING = 5  # jobs of a kind


@dataclass(frozen=True)
class RestoreTest:
    """The last restore test of a database that showed anything good."""

    ended_at: datetime
    duration: timedelta


@dataclass(frozen=True)
class Card:
    """One database."""

    row: Row
    days: Sequence[Day]
    tested: RestoreTest | None

    @property
    def share_of_target(self) -> int:
        """How much of the age that its newest good backup may have is over, in per cent."""
        if self.row.fresh_at is None or not self.row.max_age:
            return 0
        return min(100, round(100 * (now() - self.row.fresh_at) / self.row.max_age))


@dataclass(frozen=True)
class Todo:
    """One of the first steps of a new panel."""

    words: str
    endpoint: str  # of the page where it is done
    is_done: bool


@dataclass(frozen=True)
class Running:
    """The jobs that wait or run, oldest first."""

    backups: Sequence[DatabaseBackup]
    restores: Sequence[Restore]
    copies: Sequence[tuple[Copy, str]]  # and the name of its store

    @property
    def is_anything(self) -> bool:
        return bool(self.backups or self.restores or self.copies)


@dataclass(frozen=True)
class Dashboard:
    """All of it."""

    rows: Sequence[Row]  # of each database, those that are not protected first
    cards: Sequence[Card]  # of the first of them
    running: Running
    coming: Sequence[Schedule]
    growth: Growth  # of the dumps here
    free: int | None  # bytes; None: the folder cannot be asked
    stores: Sequence[StoreRow]
    recent: Sequence[AuditEntry]
    todos: Sequence[Todo]

    @property
    def unprotected(self) -> Sequence[Row]:
        """Those that are not protected, the one without a good backup for longest first."""
        return [row for row in self.rows if not row.is_protected]

    @property
    def full_on(self) -> datetime | None:
        """When the disk is full at the present rate, if nothing is deleted; None: not soon."""
        days = None if self.free is None else self.growth.days_left(self.free)
        return None if days is None else now() + timedelta(days=days)

    @property
    def is_set_up(self) -> bool:
        """Whether all first steps are done."""
        return all(todo.is_done for todo in self.todos)


def read_dashboard(zone: tzinfo = UTC) -> Dashboard:
    """Read it, with days of this zone; the number of queries does not grow with the databases.

    Paused and retired databases are not in it.
    """
    with suppress(InvalidInput):  # there is no default one
        default_database()  # which gets its row when it is first asked for
    rows = sorted(
        (row for row in read_overview(with_retired=False) if row.state is State.ACTIVE),
        key=_urgency,
    )
    shown = [row.database.id for row in rows[:_SHOWN]]
    days, tested = days_of(shown, zone), _last_tests(shown)
    cards = [
        Card(row, days.get(row.database.id, ()), tested.get(row.database.id))
        for row in rows[:_SHOWN]
    ]
    coming = select(Schedule).where(Schedule.next_due_at.is_not(None))
    stores = list_rows()
    return Dashboard(
        rows=rows,
        cards=cards,
        running=_running(),
        coming=list(db.session.scalars(coming.order_by(Schedule.next_due_at).limit(_COMING))),
        growth=read_growth(),
        free=_free(),
        stores=stores,
        recent=list_entries(limit=_RECENT).entries,
        todos=_todos(rows, has_store=bool(stores)),
    )


def _urgency(row: Row) -> tuple[bool, datetime, str]:
    """The order of the databases: first those without a good backup, for longest."""
    since = row.fresh_at or row.database.created_at
    return row.is_protected, since, row.database.name


def _running() -> Running:
    copies = (
        select(Copy, Store.name)
        .join(Store, Store.id == Copy.store_id)
        .where(Copy.status == Status.PENDING)
        .order_by(Copy.created_at)
        .limit(_RUNNING)
    )
    return Running(
        _pending(DatabaseBackup),
        _pending(Restore),
        [(copy, name) for copy, name in db.session.execute(copies)],
    )


def _pending(model: type[J]) -> list[J]:
    rows = select(model).where(model.status == Status.PENDING).order_by(model.created_at)
    return list(db.session.scalars(rows.limit(_RUNNING)))


def _last_tests(database_ids: Collection[str]) -> dict[str, RestoreTest]:
    """The newest drill of each of these databases that was completed."""
    newest_first = func.row_number().over(
        partition_by=Restore.database_id, order_by=Restore.finished_at.desc()
    )
    tests = (
        select(
            Restore.database_id,
            Restore.started_at,
            Restore.finished_at,
            newest_first.label("place"),
        )
        .where(
            Restore.kind == Kind.DRILL,
            Restore.status == Status.COMPLETED,
            Restore.database_id.in_(database_ids),
            Restore.started_at.is_not(None),
        )
        .subquery()
    )
    rows = db.session.execute(select(tests).where(tests.c.place == 1))
    return {
        row.database_id: RestoreTest(row.finished_at, row.finished_at - row.started_at)
        for row in rows
    }


def _free() -> int | None:
    try:
        return storage().free_space()
    except StorageError:
        return None


def _todos(rows: Sequence[Row], *, has_store: bool) -> list[Todo]:
    """What makes a panel complete, in the order in which people do it."""
    is_scheduled = select(Schedule.id).where(Schedule.task == Task.BACKUP, Schedule.enabled)
    is_tested = select(Restore.id).where(
        Restore.kind == Kind.DRILL, Restore.status == Status.COMPLETED
    )
    return [
        Todo(
            "Make a first backup",
            "admin.backups.index",
            any(row.last_good_at for row in rows),
        ),
        Todo("Schedule backups", "admin.schedules.index", _is_any(is_scheduled)),
        Todo(
            "Test that a backup restores",
            "admin.backups.index",
            _is_any(is_tested),
        ),
        Todo("Keep copies elsewhere", "admin.stores.new", has_store),
        Todo("Be told of trouble", "admin.notifiers.index", _is_any(select(Notifier.id))),
    ]


def _is_any(rows: Select[str]) -> bool:
    return db.session.scalar(rows.limit(1)) is not None
