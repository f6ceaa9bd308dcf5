"""The timeline of a database's backups in the catalogue, of which each look reads few rows."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from heapq import merge
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, literal, or_, select, tuple_

from app.config import settings
from app.extensions import db
from app.models import DatabaseBackup, Level, Proof, Restore, Result, Status
from app.models.types import Moment
from app.services.databases.configured import DatabaseName, storage
from app.services.proofs.records import failing_backups
from app.services.retention.rules import Plan, Verdict
from app.services.retention.timelines import Candidate, Key, Range, Spared, Tally

_PAGE = 1000  # rows
_B = DatabaseBackup

_IS_PROVEN = exists().where(
    Proof.backup_id == _B.id, Proof.result == Result.PASSED, Proof.level >= Level.READ
)
_COLUMNS = (_B.id, _B.filename, _B.created_at, _B.size)  # all of them in the index


class History:
    """A Timeline of the backups of a database, as it is when this is made.

    The few that do not count are read at once; of the others each look reads a page.
    """

    def __init__(self, name: DatabaseName, at: datetime) -> None:
        self._holds = _holds(at)
        self._completed = and_(
            _B.server == name.server,
            _B.database == name.database,
            _B.status == Status.COMPLETED,
            _B.delete_requested_at.is_(None),
        )
        self._total = self._tally()
        self._alone = self._left_alone(frozenset(failing_backups(name)), at)
        # What was read last: oldest first, all that lie before its end.
        self._rows: list[Any] = []
        self._keys: list[Key] = []
        self._end: Key | None = None
        self._has_read = False

    def before(self, key: Key | None) -> Candidate | None:
        while (row := self._last_before(key)) is not None and row.id in self._alone:
            key = (row.created_at, row.id)
        return row and self._seen(row)

    def after(self, key: Key | None) -> Iterator[Candidate]:
        return self._each(after=key)

    def drilled(self) -> Iterator[Candidate]:
        drilled = select(Proof.backup_id).where(
            Proof.result == Result.PASSED, Proof.level >= Level.RESTORED
        )
        return self._each(_B.id.in_(drilled), newest_first=True)

    def held(self) -> Iterator[Candidate]:
        # By names alone: they are few, and an index of their own finds them.
        chosen = select(*_COLUMNS, self._completed.label("is_completed"))
        for row in db.session.execute(chosen.where(_B.filename.in_(self._holds))).all():
            if row.is_completed and row.id not in self._alone:
                yield self._seen(row)

    def latest(self) -> datetime | None:
        return db.session.scalar(select(func.max(_B.created_at)).where(self._completed))

    def total(self) -> Tally:
        return self._total

    def beyond(self, spared: Spared) -> Tally:
        spans = [
            and_(_B.created_at >= each.since, _B.created_at <= each.until) for each in spared.ranges
        ]
        stays = [self._tally(or_(*spans))] if spans else []
        others = [*spared.single.values(), *self._alone.values()]
        stays += [
            Tally(1, each.size)
            for each in others
            if not any(span.holds(each.created_at) for span in spared.ranges)
        ]
        return Tally(
            self._total.number - sum(each.number for each in stays),
            self._total.size - sum(each.size for each in stays),
        )

    def spared(self, spared: Spared) -> Iterator[Candidate]:
        return self._each(~_is_beyond(spared))

    def removed(self, plan: Plan) -> Iterator[Verdict]:
        """What goes by a plan, newest first."""
        goes = or_(_is_beyond(plan.spared), _B.id.in_(plan.evicted))
        return map(plan.verdict, self._each(goes, newest_first=True))

    def kept(self, plan: Plan) -> Iterator[Verdict]:
        """What stays by it, newest first."""
        stays = and_(~_is_beyond(plan.spared), _B.id.not_in(plan.evicted))
        alone = sorted(self._alone.values(), key=attrgetter("key"), reverse=True)
        counting = self._each(stays, newest_first=True)
        return map(plan.verdict, merge(counting, alone, key=attrgetter("key"), reverse=True))

    def _left_alone(self, damaged: frozenset[str], at: datetime) -> dict[str, Candidate]:
        chosen = select(
            *_COLUMNS, _B.foreign, _B.pinned_at, _B.pin_reason, _IS_PROVEN.label("is_proven")
        ).where(
            self._completed,
            or_(
                _B.pinned_at.is_not(None),
                _B.foreign,
                _B.created_at > at,
                _B.id.in_(damaged),
                and_(_B.proven.is_(False), ~_IS_PROVEN),
            ),
        )
        return {
            row.id: Candidate(
                *row[:4],
                is_proven=row.is_proven,
                is_damaged=row.id in damaged,
                is_foreign=row.foreign,
                pin=row.pin_reason if row.pinned_at is not None else None,
            )
            for row in db.session.execute(chosen)
        }

    def _last_before(self, key: Key | None) -> Any:
        """The row before a place, of those that were read, or are now."""
        covered = self._has_read and (self._end is None or (key is not None and key <= self._end))
        number = (len(self._keys) if key is None else bisect_left(self._keys, key)) * covered
        if not number:
            newest = self._rows_of(before=key, newest_first=True)
            self._rows = list(reversed(newest))
            self._keys = [(each.created_at, each.id) for each in self._rows]
            self._end, self._has_read = key, True
            number = len(self._rows)
        return self._rows[number - 1] if number else None

    def _each(
        self, *which: ColumnElement[bool], after: Key | None = None, newest_first: bool = False
    ) -> Iterator[Candidate]:
        """Those that count, read page by page."""
        start: dict[str, Key | None] = {"after": after}
        while rows := self._rows_of(*which, newest_first=newest_first, **start):
            yield from (self._seen(each) for each in rows if each.id not in self._alone)
            if len(rows) < _PAGE:
                return
            start = {"before" if newest_first else "after": (rows[-1].created_at, rows[-1].id)}

    def _rows_of(
        self,
        *which: ColumnElement[bool],
        after: Key | None = None,
        before: Key | None = None,
        newest_first: bool = False,
    ) -> Sequence[Any]:
        chosen = select(*_COLUMNS).where(self._completed, *which)
        if after is not None:
            chosen = chosen.where(_place() > _at(after))
        if before is not None:
            chosen = chosen.where(_place() < _at(before))
        order = (_B.created_at, _B.id)
        chosen = chosen.order_by(*(each.desc() if newest_first else each for each in order))
        return db.session.execute(chosen.limit(_PAGE)).all()

    def _seen(self, row: Any) -> Candidate:
        return Candidate(
            row.id,
            row.filename,
            row.created_at,
            row.size,
            is_missing=not storage().has(row.filename),
            hold=self._holds.get(row.filename, ""),
        )

    def _tally(self, *which: ColumnElement[bool]) -> Tally:
        counted = select(func.count(), func.sum(_B.size)).where(self._completed, *which)
        number, size = db.session.execute(counted).one()
        return Tally(number, int(size or 0))


def _holds(at: datetime) -> dict[str, str]:
    """Which backups restores need, by filename, and why."""
    kept_for = timedelta(seconds=settings().keep_replaced)
    is_pending = Restore.status == Status.PENDING
    saved_lately = and_(Restore.safety_backup.is_not(None), Restore.finished_at > at - kept_for)
    rows = db.session.execute(
        select(Restore.filename, Restore.safety_backup, is_pending.label("is_pending")).where(
            or_(is_pending, saved_lately)
        )
    ).all()
    saved = {each.safety_backup: "made before a restore, to take it back" for each in rows}
    return saved | {each.filename: "being restored" for each in rows if each.is_pending}


def _is_beyond(spared: Spared) -> ColumnElement[bool]:
    return and_(_B.id.not_in(spared.single), *(_is_outside(each) for each in spared.ranges))


def _is_outside(span: Range) -> ColumnElement[bool]:
    return or_(_B.created_at < span.since, _B.created_at > span.until)


def _place() -> Any:
    return tuple_(_B.created_at, _B.id)


def _at(key: Key) -> Any:
    return tuple_(literal(key[0], Moment()), literal(key[1]))
