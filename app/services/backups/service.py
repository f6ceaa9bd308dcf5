"""The shared backup service, for the page, the API and the terminal."""

import logging
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from typing import BinaryIO

from sqlalchemy import func, select

from app.errors import (
    Conflict,
    Interrupted,
    InvalidInput,
    NotFound,
    StorageError,
    VerificationError,
)
from app.extensions import db, writing
from app.host import own_user
from app.logs import errors_logged
from app.models import ActOutcome, Database, DatabaseBackup, Restore, Status, Trigger
from app.models.types import moment_text, now
from app.programs.command import Line
from app.queue import proofs_queue, queue
from app.services.audit.acting import acting, tell
from app.services.backups.listing import get_backup
from app.services.backups.manifests import MAX_NOTES
from app.services.backups.pins import refuse_pinned
from app.services.backups.publication import renew_manifest
from app.services.backups.queue import (
    find_waiting,
    insert_pending,
    is_server_busy,
    list_unclaimed,
)
from app.services.backups.run import run_claimed
from app.services.databases.configured import storage
from app.services.databases.lookup import guarded
from app.services.jobs import claims
from app.services.jobs.progress import Progress, wait_for_end
from app.services.jobs.run import telling
from app.services.jobs.settling import settle_dead_jobs

logger = logging.getLogger(__name__)

_UNCLAIMED_TOO_LONG = timedelta(seconds=30)


@acting
def queue_backup(
    database: Database | None = None,
    *,
    trigger: Trigger,
    created_by: str,
    notes: str = "",
    backup_id: str = "",
) -> DatabaseBackup:
    """Queue a backup of a database, by default the default one; return its PENDING row at once.

    `backup_id` is the id of the row; without one it gets a new one. Raises Conflict,
    naming it, if a backup of this database is pending or it is retired, and InvalidInput
    for the notes.
    """
    of = guarded(database)
    backup = insert_pending(trigger, created_by, checked_notes(notes), of=of, backup_id=backup_id)
    wake_worker(backup)
    return backup


@acting
def create_backup(
    database: Database | None = None,
    *,
    trigger: Trigger,
    created_by: str | None = None,
    notes: str = "",
    on_line: Line | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> DatabaseBackup:
    """Make a backup in this process and return its row, COMPLETED or FAILED.

    `created_by` is by default the user of this process. `on_line` gets each line of
    pg_dump, `on_progress` the progress about once a second. Raises as `queue_backup`.
    """
    created_by = created_by if created_by is not None else own_user()
    notes = checked_notes(notes)
    if claims.is_stopping():
        raise Interrupted("the backup was interrupted before it began")
    of = guarded(database)
    try:
        backup = insert_pending(trigger, created_by, notes, of=of)
    except Conflict:
        if not _run_forgotten():
            raise
        backup = insert_pending(trigger, created_by, notes, of=of)
    filename = backup.filename
    on_news = telling(on_progress, lambda: get_backup(filename))
    run_backup.call_local(backup.id, on_line, on_news)
    return ended_as(get_backup(filename))


def ended_as(backup: DatabaseBackup) -> DatabaseBackup:
    """Record in the audit how a backup ended that was made here; return its row."""
    if not backup.is_completed:
        tell(outcome=ActOutcome.FAILED, detail=backup.error_message)
    return backup


@queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_backup(
    backup_id: str, on_line: Line | None = None, on_news: Callable[[], None] = lambda: None
) -> None:
    """Claim a queued backup and run it, unless somebody else does.

    Calling this wakes a worker; `run_backup.call_local` runs it here.
    """
    if claims.claim(backup_id):
        run_claimed(backup_id, on_line, on_news)


@queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_in_turn(backup_id: str) -> None:
    """The same in a worker, unless the server is busy; afterwards the next one of it follows."""
    if not claims.claim(backup_id, unless=is_server_busy):
        return
    server = db.session.get_one(DatabaseBackup, backup_id).server
    try:
        run_claimed(backup_id)
    finally:
        if (waiting := find_waiting(server)) is not None:
            wake_worker(waiting)


@proofs_queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_import(backup_id: str) -> None:
    """The same for an import, in another queue, so that no backup waits for it."""
    run_backup.call_local(backup_id)


def run_unclaimed() -> None:
    """Wake a worker for pending backups whose task may be lost."""
    for backup in list_unclaimed(older_than=timedelta(seconds=5)):
        wake_worker(backup)
    db.session.commit()


def wait_for_backup(backup_id: str, seconds: float) -> DatabaseBackup:
    """The row of the backup when it has ended, or as it is after so many seconds.

    Raises NotFound if it was deleted meanwhile.
    """

    def read() -> DatabaseBackup:
        backup = db.session.get(DatabaseBackup, backup_id, populate_existing=True)
        if backup is None:
            raise NotFound("the backup was deleted meanwhile")
        return backup

    return wait_for_end(read, seconds)


@acting
def cancel_backup(filename: str, *, by: str) -> None:
    """Cancel a pending backup, which becomes FAILED.

    One that nobody runs ends at once, a running one within two seconds
    (`wait_for_backup`). Raises NotFound, Conflict if it has ended.
    """
    with errors_logged("settling dead jobs"):
        settle_dead_jobs()  # a dead runner would not notice
    with writing():
        backup = get_backup(filename)
        if not backup.is_pending:
            raise Conflict(f"{filename} has ended already: it is {backup.status.value}")
        backup.cancel(by)
    logger.info("backup cancelled filename=%s by=%r", filename, by)


def open_backup(filename: str) -> tuple[DatabaseBackup, BinaryIO]:
    """A backup and its dump, opened for reading; the caller closes the file.

    Raises NotFound, Conflict if it is not COMPLETED, ObjectMissing if the file is gone,
    VerificationError if it has another size.
    """
    backup = get_backup(filename)
    if not backup.is_completed:
        raise Conflict(f"{filename} is {backup.status.value} and has no dump")
    file = storage().open(filename)
    if file.seek(0, 2) != backup.size:
        file.close()
        raise VerificationError(
            f"{filename} has another size than when it was made",
            detail=f"The catalogue says {backup.size} bytes.",
            hint="Do not restore it; flask backup check shows which dumps are whole.",
        )
    file.seek(0)
    return backup, file


@acting
def edit_notes(filename: str, notes: str) -> DatabaseBackup:
    """Change the notes of a backup, in its row and its manifest.

    Raises NotFound, InvalidInput.
    """
    notes = checked_notes(notes)
    with writing():
        backup = get_backup(filename)
        backup.notes, backup.manifest_stale = notes, True
        backup_id = backup.id
    tell(detail=f"notes: {notes}")
    renew_manifest(backup_id)
    backup = get_backup(filename)
    logger.info("notes edited filename=%s", filename)
    return backup


@acting
def delete_backup(filename: str) -> None:
    """Delete a backup for a person: its dump, its manifest and its row.

    Raises as `remove_backup`, and Conflict if it is pinned.
    """
    remove_backup(filename, refuse_pinned)


def remove_backup(filename: str, refuse: Callable[[DatabaseBackup], None]) -> None:
    """Remove a backup: its dump, its manifest and its row, unless `refuse` raises.

    The dump may be gone already. Raises NotFound, Conflict while the backup is PENDING or
    being restored, StorageError if the dump cannot be removed.
    """
    with writing() as session:
        backup = get_backup(filename)
        backup = session.get_one(
            DatabaseBackup, backup.id, with_for_update=True, populate_existing=True
        )
        pending = (Restore.filename == filename) & (Restore.status == Status.PENDING)
        if db.session.scalar(select(func.count()).select_from(Restore).where(pending)):
            raise Conflict(
                f"{filename} is being restored", hint="Wait until that has ended, or cancel it."
            )
        if backup.is_pending:
            raise Conflict(
                f"{filename} is still being made", hint="Wait until it has ended, or cancel it."
            )
        refuse(backup)
        backup.delete_requested_at = now()
        backup_id = backup.id
        made = moment_text(backup.created_at)
        tell(detail=f"{backup.status.value} {made} of {backup.database}, {backup.size} bytes")
    try:
        storage().delete(filename)
    except StorageError:
        with writing() as session:
            session.get_one(DatabaseBackup, backup_id).delete_requested_at = None
        raise
    with writing() as session:
        row = session.get(DatabaseBackup, backup_id)
        if row is not None:  # a reconcile may have been faster
            session.delete(row)
    logger.info("backup deleted filename=%s", filename)


def wake_worker(backup: DatabaseBackup) -> None:
    """Queue its task, unless that is queued already. Without a worker it waits."""
    tasks, run = (proofs_queue, run_import) if backup.foreign else (queue, run_in_turn)
    tasks.wake(run, backup.id)


def _run_forgotten() -> bool:
    """Run here what no worker has taken for long; return whether there was anything."""
    forgotten = list_unclaimed(older_than=_UNCLAIMED_TOO_LONG)
    for backup in forgotten:
        run_backup.call_local(backup.id)
    return bool(forgotten)


def checked_notes(notes: str) -> str:
    """Notes as they are stored. Raises InvalidInput."""
    notes = notes.replace("\r\n", "\n").strip()
    if len(notes) > MAX_NOTES:
        raise InvalidInput(f"notes must not be longer than {MAX_NOTES} characters")
    if any(
        unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
        for character in notes
    ):
        raise InvalidInput("notes must not contain control characters")
    return notes
