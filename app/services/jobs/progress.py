"""How far a job has come, as its row stores it and as faces show it, and the wait for its end."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from app.extensions import db
from app.models import Copy, DatabaseBackup, Job, Restore
from app.models.types import camel_case
from app.pausing import pause
from app.services.databases.configured import storage

J = TypeVar("J", bound=Job)

_POLL = 0.1  # seconds between two queries of a row that somebody waits for
_ENOUGH_TO_GUESS = 1.0  # per cent done before the rest can be estimated
_NOT_STORED = ("elapsed_seconds", "seconds_left")


@dataclass(frozen=True)
class Progress:
    """The progress of a running job."""

    phase: str = "starting"  # then dumping, checking, publishing; of a restore also loading
    percent: float = 0.0  # of the whole job
    tables_done: int = 0
    tables_total: int = 0
    table: str = ""  # the current one, if there is one
    bytes_written: int = 0  # of the dump
    is_last: bool = False  # its worker ends after this job
    elapsed_seconds: float = 0.0
    seconds_left: float | None = None  # None while it cannot be estimated

    def as_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {camel_case(name): value for name, value in asdict(self).items()}

    def stored(self) -> dict[str, Any]:
        """As the row of the job stores it."""
        unknown = {camel_case(name) for name in _NOT_STORED}
        return {key: value for key, value in self.as_json().items() if key not in unknown}


def progress_of(job: DatabaseBackup | Restore | Copy) -> Progress | None:
    """The progress of a running job; None if it does not run."""
    if not job.is_pending or job.duration is None:
        return None
    progress = _read(job.progress or {})
    elapsed, percent = job.duration.total_seconds(), progress.percent
    left = elapsed * (100 - percent) / percent if percent >= _ENOUGH_TO_GUESS else None
    return replace(
        progress,
        bytes_written=_written(job, progress),
        elapsed_seconds=round(elapsed, 3),
        seconds_left=left and round(left, 1),
    )


def wait_for_end(read: Callable[[], J], seconds: float) -> J:
    """The row once its job has ended, or as it is after so many seconds; `read` reads it."""
    deadline = time.monotonic() + seconds
    while True:
        job = read()
        if not job.is_pending or time.monotonic() >= deadline:
            return job
        db.session.commit()  # to see the changes of others
        pause(_POLL)


def _written(job: DatabaseBackup | Restore | Copy, progress: Progress) -> int:
    if isinstance(job, Copy):
        return progress.bytes_written
    if not isinstance(job, DatabaseBackup):
        return 0
    # The file is the newer figure, but several jobs have more in their folder.
    return max(progress.bytes_written, storage().staged_size(job.filename))


def _read(stored: dict[str, Any]) -> Progress:
    keys = {camel_case(field.name): field.name for field in fields(Progress)}
    return Progress(**{keys[key]: value for key, value in stored.items() if key in keys})
