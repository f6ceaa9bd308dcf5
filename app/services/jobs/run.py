"""A running job: renew its lease, store its progress, and notice its end."""

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
from app.postgres.dump import took_too_long
from app.postgres.progress import DumpProgress
from app.programs.command import Log
from app.services.jobs import claims
from app.services.jobs.progress import Progress, progress_of

logger = logging.getLogger(__name__)

_LOOK_EVERY = 0.5  # seconds between two checks for a cancellation
_STORE_EVERY = 1.0  # seconds between two updates of the progress
_RENEW_EVERY = 10.0  # seconds; six times within a lease
_LOG_LINES = 200  # of the log while it still grows

# The share of each step in per cent: reading back took a tenth of the time.
_DUMPED, _CHECKED = 90, 99


class Run:
    """Repeated duties while a backup is made or restored."""

    job: AnyJob = DatabaseBackup

    def __init__(
        self, job_id: str, *, limit: int, on_news: Callable[[], None] = lambda: None
    ) -> None:
        self.job_id = job_id
        self.log = Log()
        self.progress = DumpProgress([])
        self.phase = "starting"  # then dumping, checking, publishing
        self.dumped_share = _DUMPED  # per cent of the job that the dump takes
        self.checked = 0.0  # share of the dump that is read back
        self._limit = limit  # seconds
        self._on_news = on_news  # called after each update of the row
        self._started = self._looked = self._renewed = self._compared = time.monotonic()
        self._stored: dict[str, Any] = {}

    def check(self, *, now_at_once: bool = False) -> None:
        """Do what is due. Raise Interrupted if the run must end, PostgresError at its limit."""
        if claims.is_stopping():
            raise Interrupted(
                f"the {self.job.word} was interrupted",
                detail="Its runner was stopped.",
                hint=f"Start the {self.job.word} again.",
            )
        moment = time.monotonic()
        if moment > self._started + self._limit:
            raise self._too_long(self._limit)
        with self._tolerating_the_catalogue(insist=now_at_once):
            if now_at_once or moment > self._looked + _LOOK_EVERY:
                self._looked = moment
                self._raise_if_cancelled()
            if now_at_once or self._has_changed() or moment > self._renewed + _RENEW_EVERY:
                self._store()

    def _too_long(self, seconds: int) -> PostgresError:
        return took_too_long(seconds)

    @contextmanager
    def _tolerating_the_catalogue(self, *, insist: bool) -> Iterator[None]:
        """Tolerate an unreachable catalogue for the length of a lease."""
        try:
            yield
        except DatabaseError as error:
            db.session.rollback()
            if insist or time.monotonic() > self._renewed + LEASE.total_seconds():
                raise
            logger.warning("lease not renewed error=%r", str(error.orig))

    def _raise_if_cancelled(self) -> None:
        cancelled = select(self.job.cancelled_by).where(self.job.id == self.job_id)
        by = db.session.scalar(cancelled)
        db.session.commit()
        if by is not None:
            raise Interrupted(f"cancelled by {by}")

    def _has_changed(self) -> bool:
        if time.monotonic() < self._compared + _STORE_EVERY:
            return False
        self._compared = time.monotonic()
        return self._columns() != self._stored

    def _columns(self) -> dict[str, Any]:
        return {"progress": self.measure().stored(), "log": self.log.latest(_LOG_LINES)}

    def measure(self) -> Progress:
        """How far it has come."""
        dump = self.progress
        is_dumping = self.phase in ("starting", "dumping")
        done = self.dumped_share * (dump.fraction if is_dumping else 1)
        return Progress(
            phase=self.phase,
            percent=round(done + (_CHECKED - self.dumped_share) * self.checked, 1),
            tables_done=dump.done if is_dumping else dump.total,
            tables_total=dump.total,
            table=dump.table if is_dumping else "",
            bytes_written=dump.written,
            is_last=claims.is_leaving(),
        )

    def _store(self) -> None:
        mine = update(self.job).where(
            self.job.id == self.job_id,
            self.job.status == Status.PENDING,
            self.job.claimed_by == claims.runner(),
        )
        columns = self._columns()
        with writing() as session:
            result = session.execute(mine.values(lease_until=now() + LEASE, **columns))
            lost = isinstance(result, CursorResult) and result.rowcount == 0
        if lost:
            raise Interrupted(
                f"the {self.job.word} lost its claim",
                detail="Its lease expired: this process was asleep, or the clock was changed.",
                hint=f"Start the {self.job.word} again.",
            )
        self._stored, self._renewed = columns, time.monotonic()
        self._on_news()


def telling(
    on_progress: Callable[[Progress], None] | None, job: Callable[[], DatabaseBackup | Restore]
) -> Callable[[], None]:
    """An `on_news` that passes the progress of a job on."""

    def on_news() -> None:
        if on_progress is None:
            return
        progress = progress_of(job())
        db.session.commit()
        if progress is not None:
            on_progress(progress)

    return on_news
