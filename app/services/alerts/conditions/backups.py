"""Backups that fail, are too old, or are unlike those before them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from statistics import median

from humanize import naturaldelta
from sqlalchemy import Select, func, or_, select

from app.config import settings
from app.extensions import db
from app.models import Admin, Database, DatabaseBackup, Fact, Level, Proof, Status
from app.models.types import moment_text
from app.postgres.connection import is_refusal
from app.services.alerts.conditions.trouble import Trouble, ended_as, size_text, trouble_of
from app.services.backups.good import find_newest_good

_BEFORE = 5  # backups with which a new one is compared
_ENOUGH = 3  # of them, before it is
_SHORT = timedelta(minutes=1)  # what takes no longer than so much more is not slow


def list_ended(database: Database) -> list[DatabaseBackup]:
    """The newest backups that have ended: most often all that the questions below need."""
    ended = _ours(database).where(DatabaseBackup.status != Status.PENDING)
    return list(db.session.scalars(ended.limit(1 + _BEFORE)))


def failing(database: Database, ended: list[DatabaseBackup]) -> Iterator[Trouble]:
    """One alarm however many have failed since the last success."""
    if not ended or ended[0].is_completed:
        return
    last = ended[0]
    good = _ours(database).where(DatabaseBackup.status == Status.COMPLETED).limit(1)
    good_at = good.with_only_columns(DatabaseBackup.created_at).scalar_subquery()
    failed = _ours(database).where(
        DatabaseBackup.status == Status.FAILED,
        or_(good_at.is_(None), DatabaseBackup.created_at > good_at),
    )
    counted = failed.order_by(None).with_only_columns(
        func.count(), func.min(DatabaseBackup.finished_at)
    )
    number, since = db.session.execute(counted).one()
    times = "A backup" if number == 1 else f"{number} backups"
    refused = is_refusal(last.error_detail)
    yield trouble_of(
        Fact.ACCESS_REFUSED if refused else Fact.BACKUP_FAILED,
        database,
        f"{times} of {database.name} failed{': the server refuses us' if refused else ''}",
        ended_as(f"Since {moment_text(since)}. The last, {last.filename}", last),
        since,
    )


def too_old(database: Database, at: datetime) -> Iterator[Trouble]:
    """No good one for longer than the setting allows."""
    bound = timedelta(seconds=database.max_age or settings().alarm_max_age)
    if not bound:
        return
    newest = find_newest_good(database, partial=bool(database.without_rows_of))
    since = newest.created_at if newest else _guarded_since(database)
    if since is None or at - since <= bound:
        return
    state = f"the newest is {newest.filename}" if newest else "there is none"
    yield trouble_of(
        Fact.BACKUP_TOO_OLD,
        database,
        f"No good backup of {database.name} for more than {naturaldelta(bound)}",
        f"Of {database.dbname} on {database.server} {state}. One is expected every"
        f" {naturaldelta(bound)} (BACKSTOP_ALARM_MAX_AGE).",
        since + bound,
    )


def _guarded_since(database: Database) -> datetime | None:
    """Without any backup, the age of the panel counts, or of the database in it."""
    installed_at: datetime | None = db.session.scalar(select(func.min(Admin.created_at)))
    if database.from_environment or installed_at is None:
        return installed_at
    return max(installed_at, database.created_at)


def unlike_the_others(database: Database, ended: list[DatabaseBackup]) -> Iterator[Trouble]:
    """Smaller, slower or with fewer tables than those before: something may be wrong."""
    completed = ended
    if not all(backup.is_completed for backup in ended):
        made = _ours(database).where(DatabaseBackup.status == Status.COMPLETED).limit(1 + _BEFORE)
        completed = list(db.session.scalars(made))
    if len(completed) <= _ENOUGH:
        return
    newest, earlier = completed[0], completed[1:]

    def unlike(kind: Fact, what: str, now: str, usual: str) -> Trouble:
        body = f"{newest.filename}: {now}; the median of the {len(earlier)} before it is {usual}."
        return trouble_of(
            kind, database, f"Backup of {database.name} {what}", body, newest.finished_at
        )

    bounds = settings()
    size = median(backup.size for backup in earlier)
    if newest.size * 100 < size * bounds.alarm_smaller:
        figures = size_text(newest.size), size_text(size)
        yield unlike(Fact.BACKUP_SMALLER, "is smaller than usual", *figures)
    usual, took = timedelta(seconds=median(map(_seconds, earlier))), _seconds(newest)
    bound = max(usual * bounds.alarm_slower / 100, usual + _SHORT)
    if bounds.alarm_slower and took > bound.total_seconds():
        figures = naturaldelta(took), naturaldelta(usual)
        yield unlike(Fact.BACKUP_SLOWER, "takes longer than usual", *figures)
    tables = _tables([backup.id for backup in completed])
    others = [tables[backup.id] for backup in earlier if backup.id in tables]
    if newest.id not in tables or len(others) < _ENOUGH:
        return
    if tables[newest.id] * 100 < median(others) * bounds.alarm_fewer_tables:
        figures = f"{tables[newest.id]} tables", f"{median(others):g}"
        yield unlike(Fact.FEWER_TABLES, "has fewer tables than usual", *figures)


def _ours(database: Database) -> Select[DatabaseBackup]:
    """Backups of a database that were not cancelled, newest first."""
    return (
        select(DatabaseBackup)
        .where(
            DatabaseBackup.database_id == database.id,
            DatabaseBackup.foreign.is_(False),
            DatabaseBackup.is_partial.is_(bool(database.without_rows_of)),
            DatabaseBackup.cancelled_by.is_(None),
            DatabaseBackup.delete_requested_at.is_(None),
        )
        .order_by(DatabaseBackup.created_at.desc())
    )


def _tables(ids: list[str]) -> dict[str, int]:
    """How many tables each of these backups has, as its first proof tells."""
    counted = select(Proof.backup_id, Proof.evidence).where(
        Proof.backup_id.in_(ids), Proof.level == Level.READ
    )
    return {
        backup_id: evidence["tables"]
        for backup_id, evidence in db.session.execute(counted)
        if isinstance(evidence.get("tables"), int)
    }


def _seconds(backup: DatabaseBackup) -> float:
    return backup.duration.total_seconds() if backup.duration else 0.0
