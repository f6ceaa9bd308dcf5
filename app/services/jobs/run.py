"""One run of a backup while it lasts: renew its lease, tell its progress, hear its end."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.exc import DatabaseError

from app.errors import Interrupted, PostgresError
from app.extensions import db, writing
from app.models import AnyJob, DatabaseBackup, Restore, Status
from app.models.job import LEASE
from app.models.types import now
from app.postgres.command import Log
from app.postgres.dump import took_too_long
from app.postgres.progress import DumpProgress
from app.services.databases.configured import storage
from app.services.jobs import claims

logger = logging.getLogger(__name__)

_LOOK_EVERY = 0.5  # seconds until a cancel is heard
_TELL_EVERY = 1.0  # seconds between two words about the progress
_RENEW_EVERY = 10.0  # seconds; six times within a lease
_LOG_LINES = 200  # of the log while it still grows

_ENOUGH_TO_GUESS = 1.0  # per cent done before the rest is guessed from it

# How the whole is divided, in per cent: reading back took a tenth of the time.
_DUMPED, _CHECKED = 90, 99


class Run:
    """What has to be done again and again while a backup is made, or restored."""

    job: AnyJob = DatabaseBackup

    def __init__(
        self, job_id: str, *, limit: int, on_news: Callable[[], None] = lambda: None
    ) -> None:
        self.job_id = job_id
        self.log = Log()
        self.progress = DumpProgress([])
        self.phase = "starting"  # then dumping, checking, publishing
        self.dumped_share = _DUMPED  # per cent of the whole that is done when it is dumped
        self.checked = 0.0  # share of the dump that was read back
        self._limit = limit  # seconds
        self._on_news = on_news  # called when more has been told on the row
        self._started = self._looked = self._renewed = self._told_at = time.monotonic()
        self._told: dict[str, Any] = {}

    def check(self, *, now_at_once: bool = False) -> None:
        """Do what is due; raise Interrupted if the run must end, PostgresError at its limit."""
        if claims.is_stopping():
            raise Interrupted(
                f"the {self.job.word} was interrupted",
                detail="Its runner was told to stop.",
                hint=f"Start the {self.job.word} again.",
            )
        moment = time.monotonic()
        if moment > self._started + self._limit:
            raise self._too_long(self._limit)
        with self._bearing_with_the_catalogue(insist=now_at_once):
            if now_at_once or moment > self._looked + _LOOK_EVERY:
                self._looked = moment
                self._hear()
            if now_at_once or self._is_news() or moment > self._renewed + _RENEW_EVERY:
                self._tell()

    def _too_long(self, seconds: int) -> PostgresError:
        return took_too_long(seconds)

    @contextmanager
    def _bearing_with_the_catalogue(self, *, insist: bool) -> Iterator[None]:
        """It may be back before the lease is over."""
        try:
            yield
        except DatabaseError as error:
            db.session.rollback()
            if insist or time.monotonic() > self._renewed + LEASE.total_seconds():
                raise
            logger.warning("lease not renewed error=%r", str(error.orig))

    def _hear(self) -> None:
        cancelled = select(self.job.cancelled_by).where(self.job.id == self.job_id)
        by = db.session.scalar(cancelled)
        db.session.commit()
        if by is not None:
            raise Interrupted(f"cancelled by {by}")

    def _is_news(self) -> bool:
        if time.monotonic() < self._told_at + _TELL_EVERY:
            return False
        self._told_at = time.monotonic()
        return self._news() != self._told

    def _news(self) -> dict[str, Any]:
        return {"progress": self.in_figures(), "log": self.log.latest(_LOG_LINES)}

    def in_figures(self) -> dict[str, Any]:
        """How far it is, as it stands on the row."""
        return _in_figures(self.phase, self.progress, self.checked, self.dumped_share)

    def _tell(self) -> None:
        mine = update(self.job).where(
            self.job.id == self.job_id,
            self.job.status == Status.PENDING,
            self.job.claimed_by == claims.runner(),
        )
        news = self._news()
        with writing() as session:
            result = session.execute(mine.values(lease_until=now() + LEASE, **news))
            lost = isinstance(result, CursorResult) and result.rowcount == 0
        if lost:
            raise Interrupted(
                f"the {self.job.word} was given up meanwhile",
                detail="Its lease ran out: this process was asleep, or the clock was changed.",
                hint=f"Start the {self.job.word} again.",
            )
        self._told, self._renewed = news, time.monotonic()
        self._on_news()


def _in_figures(
    phase: str, dumped: DumpProgress, checked: float, dumped_share: float = _DUMPED
) -> dict[str, Any]:
    is_dumping = phase in ("starting", "dumping")
    done = dumped_share * dumped.fraction if is_dumping else dumped_share
    return {
        "phase": phase,
        "percent": round(done + (_CHECKED - dumped_share) * checked, 1),
        "tablesDone": dumped.done if is_dumping else dumped.total,
        "tablesTotal": dumped.total,
        "table": dumped.table if is_dumping else "",
        "bytesWritten": dumped.written,
        "isLast": claims.is_leaving(),
    }


def telling(
    on_progress: Callable[[dict[str, Any]], None] | None,
    row: Callable[[], DatabaseBackup | Restore],
) -> Callable[[], None]:
    """What tells of a `row` whenever there is news of its run."""

    def on_news() -> None:
        if on_progress is None:
            return
        told = progress_of(row())
        db.session.commit()
        if told is not None:
            on_progress(told)

    return on_news


def progress_of(row: DatabaseBackup | Restore) -> dict[str, Any] | None:
    """How far a running backup or restore is; None if it does not run.

    `percent` of the whole, `tablesDone` of `tablesTotal` and the `table` at
    work, `bytesWritten`, `elapsedSeconds` and `secondsLeft` (None until it can
    be guessed), `phase` (starting, dumping, checking, publishing), and
    `isLast`: its worker ends after it.
    """
    if not row.is_pending or row.duration is None:
        return None
    told = row.progress or _in_figures("starting", DumpProgress([]), 0)
    elapsed, percent = row.duration.total_seconds(), told["percent"]
    left = elapsed * (100 - percent) / percent if percent >= _ENOUGH_TO_GUESS else None
    return told | {
        "bytesWritten": storage().staged_size(row.filename) if row.word == "backup" else 0,
        "elapsedSeconds": round(elapsed, 3),
        "secondsLeft": left and round(left, 1),
    }
