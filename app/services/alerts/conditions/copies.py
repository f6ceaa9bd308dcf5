"""Copies that are overdue in a store, or were lost there."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from humanize import naturaldelta
from sqlalchemy import ScalarSelect, Select, and_, exists, func, select

from app.config import settings
from app.extensions import db
from app.models import Copy, Database, DatabaseBackup, Fact, Status, Store
from app.services.alerts.conditions.trouble import NAMED, Trouble, trouble_of
from app.services.copies.queue import is_for_store
from app.services.databases.lookup import not_retired
from app.services.proofs.records import failing_backups


def overdue_copies(at: datetime) -> Iterator[Trouble]:
    """Stores without a good copy of a good backup that is old enough, by database."""
    bound = timedelta(seconds=settings().alarm_copy_age)
    if not bound:
        return
    rows_of: dict[Database, list[tuple[Store, DatabaseBackup, str | None]]] = {}
    for database, store, backup, error in db.session.execute(_overdue(at - bound)):
        rows_of.setdefault(database, []).append((store, backup, error))
    for database, rows in rows_of.items():
        where = rows[0][0].name if len(rows) == 1 else f"{len(rows)} stores"
        lines = [
            f"{backup.filename} is not in {store.name}{f': {error}' if error else ''}."
            for store, backup, error in rows[:NAMED]
        ]
        expected = f"One is expected within {naturaldelta(bound)} (BACKSTOP_ALARM_COPY_AGE)."
        yield trouble_of(
            Fact.COPY_OVERDUE,
            database,
            f"A copy of {database.name} to {where} is overdue",
            "\n".join([*lines, expected]),
            min(backup.finished_at or backup.created_at for _, backup, _ in rows) + bound,
        )


def lost_copies() -> Iterator[Trouble]:
    """Copies that were found missing or damaged and are not good again, by store."""
    for store_id, name, number, filenames in _lost():
        more = f" and {number - NAMED} more" if number > NAMED else ""
        are = "A copy is" if number == 1 else f"{number} copies are"
        yield Trouble(
            Fact.COPY_LOST,
            store_id,
            f"{are} missing or damaged in {name}",
            f"In {name}: {', '.join(filenames)}{more}. Where the dump is here, the copy is made"
            " again; otherwise look at flask copy list, and remove it.",
        )


def _overdue(before: datetime) -> Select[Database, Store, DatabaseBackup, str]:
    """Stores with neither the newest backup that had ended `before` nor a newer one."""
    newer_copy = exists().where(
        Copy.database_id == Database.id,
        Copy.store_id == Store.id,
        Copy.dumped_at >= DatabaseBackup.created_at,
        Copy.good(),
    )
    own_copy = and_(Copy.store_id == Store.id, Copy.filename == DatabaseBackup.filename)
    return (
        select(Database, Store, DatabaseBackup, Copy.error_message)
        .select_from(Database)
        .join(Store, and_(is_for_store(Database.id), Store.is_paused.is_(False)))
        .join(DatabaseBackup, DatabaseBackup.id == _newest_good(before))
        .outerjoin(Copy, own_copy)
        .where(not_retired(), ~newer_copy.correlate(Database, Store, DatabaseBackup))
        .order_by(Database.name, Store.name)
    )


def _newest_good(before: datetime) -> ScalarSelect[str]:
    """In a query of databases and stores: the newest good one since the store was added."""
    return (
        select(DatabaseBackup.id)
        .where(
            DatabaseBackup.database_id == Database.id,
            DatabaseBackup.status == Status.COMPLETED,
            DatabaseBackup.created_at >= Store.created_at,
            DatabaseBackup.finished_at < before,
            DatabaseBackup.delete_requested_at.is_(None),
            DatabaseBackup.foreign.is_(False),
            DatabaseBackup.is_partial == (func.json_array_length(Database.without_rows_of) > 0),
            DatabaseBackup.id.not_in(failing_backups()),
        )
        .order_by(DatabaseBackup.created_at.desc())
        .limit(1)
        .correlate(Database, Store)
        .scalar_subquery()
    )


def _lost() -> list[tuple[str, str, int, list[str]]]:
    """Id and name of each store with lost copies, their number, and the newest of them."""
    newest_first = func.row_number().over(
        partition_by=Copy.store_id, order_by=Copy.dumped_at.desc()
    )
    number = func.count().over(partition_by=Copy.store_id)
    lost = (
        select(Copy.store_id, Copy.filename, newest_first.label("place"), number.label("number"))
        .where(Copy.loss.is_not(None))
        .subquery()
    )
    rows = (
        select(Store.id, Store.name, lost.c.number, lost.c.filename)
        .join(lost, lost.c.store_id == Store.id)
        .where(lost.c.place <= NAMED)
        .order_by(Store.name, lost.c.place)
    )
    lost_of: dict[str, tuple[str, str, int, list[str]]] = {}
    for store_id, name, count, filename in db.session.execute(rows):
        lost_of.setdefault(store_id, (store_id, name, count, []))[3].append(filename)
    return list(lost_of.values())
