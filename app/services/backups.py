"""The shared backup service: the page, the API and the terminal all come here."""

import getpass
import logging
import os
import sqlite3
import time
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO

from huey.exceptions import HueyException
from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import undefer

from app.errors import Conflict, InvalidInput, NotFound, StorageError, VerificationError
from app.extensions import db, writing
from app.models import BackupStatus, DatabaseBackup, Trigger
from app.models.types import now
from app.postgres.command import Line
from app.queue import queue
from app.services import claims
from app.services.backup_run import run_claimed
from app.services.databases import storage
from app.services.manifests import Proof, build_manifest, moment_text
from app.services.pending import insert_pending, list_unclaimed
from app.services.reconcile import reconcile, tolerating
from app.storages.local import NAME

logger = logging.getLogger(__name__)

MAX_NOTES = 2_000  # characters
MAX_LIMIT = 200  # backups in one answer

_POLL = 0.1  # seconds between two looks at a row that is waited for
_UNCLAIMED_TOO_LONG = timedelta(seconds=30)


@dataclass(frozen=True)
class Page:
    """Some backups, newest first, and where the next older ones begin."""

    backups: list[DatabaseBackup]
    next_before: str | None


def queue_backup(*, trigger: Trigger, created_by: str, notes: str = "") -> DatabaseBackup:
    """Ask for a backup of the configured database and return its PENDING row at once.

    Raises Conflict, naming it, if a backup of this database is pending, and
    InvalidInput for notes that cannot be kept.
    """
    backup = insert_pending(trigger, created_by, _checked_notes(notes))
    _wake_worker(backup)
    return backup


def create_backup(
    *, trigger: Trigger, created_by: str | None = None, notes: str = "", on_line: Line | None = None
) -> DatabaseBackup:
    """Make a backup in this process and return its row when it has ended.

    The row says whether it is COMPLETED or FAILED. Without `created_by` it is
    the user who runs this process. Raises as `queue_backup`.
    """
    created_by = created_by if created_by is not None else _own_user()
    notes = _checked_notes(notes)
    with tolerating():  # in the terminal nobody else may ever do it
        reconcile()
    try:
        backup = insert_pending(trigger, created_by, notes)
    except Conflict:
        if not _run_forgotten():
            raise
        backup = insert_pending(trigger, created_by, notes)
    run_backup.call_local(backup.id, on_line)
    return get_backup(backup.filename)


@queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_backup(backup_id: str, on_line: Line | None = None) -> None:
    """Claim a queued backup and run it to its end, unless somebody else does.

    Calling this wakes a worker; `run_backup.call_local` runs it here.
    """
    if claims.claim(backup_id):
        run_claimed(backup_id, on_line)


def run_unclaimed() -> None:
    """Wake a worker for pending backups that nobody has taken: their task was lost."""
    for backup in list_unclaimed(older_than=timedelta(seconds=5)):
        _wake_worker(backup)


def wait_for_backup(backup_id: str, seconds: float) -> DatabaseBackup:
    """The backup's row when it has ended, or as it is after so many seconds.

    Raises NotFound if it was deleted meanwhile.
    """
    deadline = time.monotonic() + seconds
    while True:
        backup = db.session.get(DatabaseBackup, backup_id, populate_existing=True)
        if backup is None:
            raise NotFound("the backup was deleted meanwhile")
        if not backup.is_pending or time.monotonic() >= deadline:
            return backup
        db.session.commit()  # the next look shall see what others have written
        time.sleep(_POLL)


def list_backups(
    *,
    limit: int = 50,
    before: str | None = None,
    status: BackupStatus | None = None,
    query: str = "",
) -> Page:
    """The newest backups, at most `limit`; `before` is a Page's `next_before`.

    `query` is looked for in names, databases and notes, whatever the case.
    Raises InvalidInput for a limit or a cursor that cannot be meant.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}")
    chosen = _visible().order_by(DatabaseBackup.created_at.desc(), DatabaseBackup.id.desc())
    if status is not None:
        chosen = chosen.where(DatabaseBackup.status == status)
    query = query.replace("\0", "")  # PostgreSQL has no such character
    if query:
        chosen = chosen.where(
            or_(
                *(
                    column.icontains(query, autoescape=True)
                    for column in (
                        DatabaseBackup.filename,
                        DatabaseBackup.database,
                        DatabaseBackup.notes,
                    )
                )
            )
        )
    if before:
        moment, last_id = _cursor(before)
        chosen = chosen.where(
            or_(
                DatabaseBackup.created_at < moment,
                and_(DatabaseBackup.created_at == moment, DatabaseBackup.id < last_id),
            )
        )
    found = list(db.session.scalars(chosen.limit(limit + 1)))
    shown = found[:limit]
    more = len(found) > limit
    return Page(shown, f"{moment_text(shown[-1].created_at)}~{shown[-1].id}" if more else None)


def get_backup(filename: str) -> DatabaseBackup:
    """The backup of this name, with its log. Raises NotFound."""
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


def find_newest_good() -> DatabaseBackup | None:
    """The newest completed backup whose file is there: what a restore would use."""
    chosen = (
        _visible()
        .where(DatabaseBackup.status == BackupStatus.COMPLETED)
        .order_by(DatabaseBackup.created_at.desc())
        .limit(MAX_LIMIT)
    )
    return next((each for each in db.session.scalars(chosen) if has_file(each)), None)


def has_file(backup: DatabaseBackup) -> bool:
    """Whether the dump of a completed backup is where it should be."""
    return backup.is_completed and storage().has(backup.filename)


def progress_of(backup: DatabaseBackup) -> dict[str, float] | None:
    """How far a running backup is: bytes written, seconds gone; None if it does not run."""
    if not backup.is_pending or backup.duration is None:
        return None
    return {
        "bytesWritten": storage().staged_size(backup.filename),
        "elapsedSeconds": round(backup.duration.total_seconds(), 3),
    }


def open_backup(filename: str) -> tuple[DatabaseBackup, BinaryIO]:
    """The backup and its dump, opened for reading; whoever asks closes the file.

    Raises NotFound, Conflict if it is not COMPLETED, ObjectMissing if the
    file is gone, VerificationError if its size is not the recorded one.
    """
    backup = get_backup(filename)
    if not backup.is_completed:
        raise Conflict(f"{filename} is {backup.status.value} and has no dump")
    file = storage().open(filename)
    if file.seek(0, 2) != backup.size:
        file.close()
        raise VerificationError(
            f"{filename} is not as long as it was",
            detail=f"The catalogue says {backup.size} bytes.",
            hint="Do not restore it; flask backup check tells which dumps are whole.",
        )
    file.seek(0)
    return backup, file


def edit_notes(filename: str, notes: str) -> DatabaseBackup:
    """Give a backup other notes, in the catalogue and in the dump's manifest.

    Raises NotFound and InvalidInput.
    """
    notes = _checked_notes(notes)
    with writing():
        get_backup(filename).notes = notes
    backup = get_backup(filename)
    if has_file(backup) and backup.oldest_reader is not None:
        proof = Proof(backup.size, backup.sha256, backup.oldest_reader)
        storage().replace_manifest(filename, build_manifest(backup, proof))
    logger.info("notes edited filename=%s", filename)
    return backup


def delete_backup(filename: str) -> None:
    """Delete a backup: its dump, its manifest and its row.

    A dump that is gone already is no error. Raises NotFound, Conflict while
    it is PENDING, StorageError if the dump cannot be removed.
    """
    with writing():
        backup = get_backup(filename)
        if backup.is_pending:
            raise Conflict(
                f"{filename} is still being made", hint="Wait until it has ended, then delete it."
            )
        backup.delete_requested_at = now()
        backup_id = backup.id
    try:
        storage().delete(filename)
    except StorageError:
        with writing() as session:
            session.get_one(DatabaseBackup, backup_id).delete_requested_at = None
        raise
    with writing() as session:
        row = session.get(DatabaseBackup, backup_id)
        if row is not None:  # a reconcile may have been quicker
            session.delete(row)
    logger.info("backup deleted filename=%s", filename)


def _own_user() -> str:
    """Who runs this process; in a container it may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _wake_worker(backup: DatabaseBackup) -> None:
    try:
        run_backup(backup.id)
    except (HueyException, sqlite3.Error, OSError) as error:
        # The row is what counts: a worker finds it at its next look.
        logger.warning("worker not woken filename=%s error=%r", backup.filename, str(error))


def _visible() -> Select[DatabaseBackup]:
    return select(DatabaseBackup).where(DatabaseBackup.delete_requested_at.is_(None))


def _run_forgotten() -> bool:
    """Run here what no worker has taken for long; without one it would wait for ever."""
    forgotten = list_unclaimed(older_than=_UNCLAIMED_TOO_LONG)
    for backup in forgotten:
        run_backup.call_local(backup.id)
    return bool(forgotten)


def _checked_notes(notes: str) -> str:
    notes = notes.replace("\r\n", "\n").strip()
    if len(notes) > MAX_NOTES:
        raise InvalidInput(f"notes must not be longer than {MAX_NOTES} characters")
    if any(unicodedata.category(each) in ("Cc", "Cs") and each not in "\n\t" for each in notes):
        raise InvalidInput("notes must not contain control characters")
    return notes


def _cursor(before: str) -> tuple[datetime, str]:
    moment, _, last_id = before.replace("\0", "").partition("~")
    try:
        return datetime.fromisoformat(moment).astimezone(), last_id
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            "before is not a cursor", hint="Take it from nextBefore of the answer before."
        ) from error
