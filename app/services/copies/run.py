"""Make one copy: upload, read back, and write its mark last."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from app.errors import (
    AppError,
    Conflict,
    Interrupted,
    ObjectExists,
    ObjectMissing,
    PostgresError,
    StorageError,
    VerificationError,
)
from app.extensions import db, writing
from app.models import Copy, DatabaseBackup, ReadBack, Store
from app.models.types import now
from app.services.copies.mark import Mark, Measured, mark_key, read_mark
from app.services.copies.source import Source, has_source, open_source
from app.services.copies.transfer import Outgoing, read_back, reported, upload
from app.services.jobs.outcomes import record_failure
from app.services.jobs.progress import Progress
from app.services.jobs.run import Run
from app.services.stores.credentials import opened
from app.services.stores.ownership import claim
from app.stores import Store as OpenStore

logger = logging.getLogger(__name__)

_LIMIT = 7 * 24 * 3600  # seconds; silence ends an upload much earlier
_BACK_OFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 360))
_UPLOADED = 60  # per cent of a copy that is read back
_SAMPLE = 10  # of so many copies one is read back


class CopyRun(Run):
    """The repeated work while a copy is made."""

    job = Copy

    def __init__(self, job_id: str, on_news: Callable[[], None]) -> None:
        super().__init__(job_id, limit=_LIMIT, on_news=on_news)
        self.total = self.uploaded = self.read = 0  # bytes
        self.is_read_back = True

    def take(self, size: int) -> None:
        """Count bytes that are uploaded."""
        self.uploaded += size
        self.check()

    def compare(self, size: int) -> None:
        """Count bytes that are read back."""
        self.read += size
        self.check()

    def measure(self) -> Progress:
        """How far it has come."""
        share = _UPLOADED if self.is_read_back else 99
        total = self.total or 1
        percent = share * self.uploaded / total + (99 - share) * self.read / total
        return Progress(self.phase, round(min(percent, 99.0), 1), bytes_written=self.uploaded)

    def _too_long(self, seconds: int) -> PostgresError:
        return PostgresError(f"the copy took longer than {seconds // 3600} h")


@dataclass(frozen=True)
class _Task:
    """A copy to make; its rows are detached."""

    run: CopyRun
    copy: Copy
    store: Store
    backup: DatabaseBackup | None

    @property
    def filename(self) -> str:
        return self.copy.filename


@dataclass(frozen=True)
class _Made:
    """A copy that counts."""

    mark: Mark
    is_read: bool
    recipients: list[str] | None  # None: found in the store


def run_claimed(copy_id: str, on_news: Callable[[], None] = lambda: None) -> None:
    """Make a copy that this process has claimed: COMPLETED, or FAILED and tried again later."""
    run = CopyRun(copy_id, on_news)
    try:
        made = _make(_task(run))
    except AppError as error:
        record_failure(copy_id, error, run.log.text(), job=Copy)
        plan_next_attempt(copy_id)
    except BaseException:
        interrupted = Interrupted("the copy was interrupted", hint="It is tried again by itself.")
        record_failure(copy_id, interrupted, run.log.text(), job=Copy)
        plan_next_attempt(copy_id)
        raise
    else:
        _record_success(copy_id, made, run.log.text())


def plan_next_attempt(copy_id: str) -> None:
    """Decide when a copy that failed is tried again: not if cancelled, or without a source."""
    with writing() as session:
        copy = session.get(Copy, copy_id, with_for_update=True)
        if copy is None or copy.is_pending or copy.is_completed:
            return
        wait = _BACK_OFF[min(copy.attempts, len(_BACK_OFF) - 1)]
        copy.attempts += 1
        sources = select(Copy.id).where(Copy.id == copy_id, has_source())
        is_over = copy.cancelled_by is not None or session.scalar(sources) is None
        copy.next_attempt_at = None if is_over else now() + wait


def _task(run: CopyRun) -> _Task:
    copy = db.session.get_one(Copy, run.job_id)
    store = db.session.get_one(Store, copy.store_id)
    backup = db.session.get(DatabaseBackup, copy.backup_id) if copy.backup_id else None
    task = _Task(run, copy, store, backup)
    for row in filter(None, (copy, store, backup)):
        db.session.expunge(row)
    db.session.commit()
    return task


def _make(task: _Task) -> _Made:
    """Upload it, unless it is there, read it back and mark it."""
    run, target = task.run, opened(task.store)
    run.check(now_at_once=True)
    claim(target)
    with open_source(task.copy, task.backup) as source:
        run.total = source.dump.size
        mark = _mark_there(task, target, source.dump)
        is_there = mark is not None
        run.is_read_back = is_there or _is_to_be_read(task.store, source.dump)
        if mark is None:
            mark = _upload(task, target, source)
    if run.is_read_back:
        run.phase = "reading back"
        what = f"the copy of {task.filename}"
        try:
            read_back(target, mark, what, run.compare)
        except (ObjectMissing, VerificationError):
            if is_there:  # its mark lies; the next attempt uploads it anew
                target.delete(mark_key(task.filename))
            raise
    run.check(now_at_once=True)
    if is_there:
        return _Made(mark, True, None)
    _write_mark(task, target, mark)
    return _Made(mark, run.is_read_back, sorted(task.store.recipients))


def _mark_there(task: _Task, target: OpenStore, dump: Measured) -> Mark | None:
    """The mark of a run that was killed before it could say so; a bad copy's is removed."""
    if task.copy.loss is not None:
        target.delete(mark_key(task.filename))  # from now on it does not count
        return None
    try:
        mark = read_mark(target, task.filename)
    except ObjectMissing:
        return None
    if mark.dump != dump:
        raise Conflict(
            f"the store has another copy named {task.filename}",
            detail="Its manifest is that of another dump.",
            hint="Another panel may use the same place: give each one a prefix of its own.",
        )
    task.run.log.add("found whole in the store")
    return mark


def _upload(task: _Task, target: OpenStore, source: Source) -> Mark:
    run = task.run
    run.phase = "uploading"
    blocks = reported(source.blocks, run.take)
    dump = Outgoing(task.filename, blocks, source.dump, source.manifest, source.what)
    mark = upload(target, task.store, dump, run.check)
    run.log.add(f"uploaded {mark.stored.size} bytes of {source.what} as {mark.key}")
    return mark


def _write_mark(task: _Task, target: OpenStore, mark: Mark) -> None:
    task.run.phase = "publishing"
    try:
        target.put_new(mark_key(task.filename), mark.written())
    except ObjectExists as error:
        raise StorageError(
            f"somebody else has written the manifest of {task.filename} meanwhile",
            hint="Another panel may use the same place: give each one a prefix of its own.",
        ) from error


def _is_to_be_read(store: Store, dump: Measured) -> bool:
    if store.read_back is ReadBack.SAMPLE:
        return int(dump.sha256[:8], 16) % _SAMPLE == 0
    return store.read_back is ReadBack.ALWAYS


def _record_success(copy_id: str, made: _Made, log: str) -> None:
    mark = made.mark
    with writing() as session:
        copy = session.get(Copy, copy_id, with_for_update=True)
        if copy is None or copy.is_completed:
            return
        copy.key, copy.size, copy.sha256 = mark.key, mark.stored.size, mark.stored.sha256
        copy.is_encrypted, copy.recipients, copy.loss = mark.is_encrypted, made.recipients, None
        copy.attempts, copy.next_attempt_at = 0, None
        copy.verified_at = now() if made.is_read else None
        copy.log = log
        copy.complete(now())
        filename = copy.filename
    logger.info("copy completed filename=%s size=%d", filename, mark.stored.size)
