"""Import foreign dumps: uploaded in parts, or read from a file."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import humanize
from sqlalchemy import delete, select

from app.config import settings
from app.errors import Conflict, DumpError, InvalidInput, NotFound, StorageFull
from app.extensions import db, writing
from app.host import own_user
from app.models import DatabaseBackup, Trigger, Upload
from app.postgres.archive import read_header
from app.postgres.contents import MAGIC
from app.postgres.foreign import clean_name, tell_what_it_is
from app.services.audit.acting import acting, tell
from app.services.backups.listing import get_backup
from app.services.backups.queue import Imported, insert_pending
from app.services.backups.service import checked_notes, ended_as, run_backup, wake_worker
from app.services.databases.configured import storage
from app.services.jobs.progress import Progress
from app.services.jobs.run import telling

logger = logging.getLogger(__name__)

MOST = 10  # uploads at once

_BLOCK = 1024**2  # bytes
_HEAD = 4096  # bytes, to recognise a file


@acting
def begin_upload(name: str, size: int, *, notes: str, created_by: str) -> Upload:
    """Begin the upload of a dump of so many bytes.

    Raises InvalidInput for an invalid size, Conflict if there are too many uploads,
    StorageFull if it does not fit.
    """
    notes = checked_notes(notes)
    limit = settings().upload_limit * 1024**3
    if size <= len(MAGIC):
        raise _not_a_dump(b"")
    if size > limit:
        raise InvalidInput(
            f"a dump has at most {humanize.naturalsize(limit, binary=True)}",
            hint="BACKSTOP_UPLOAD_LIMIT is the upper limit, in GiB.",
        )
    remove_old_uploads()
    with writing() as session:
        others = list(session.scalars(select(Upload)))
        if len(others) >= MOST:
            raise Conflict(
                f"the limit of {MOST} uploads is reached",
                hint="Finish or delete one; a stopped upload is removed after a day.",
            )
        _refuse_without_space(size, others)
        upload = Upload(name=clean_name(name), size=size, notes=notes, created_by=created_by[:255])
        session.add(upload)
        session.flush()
        tell(subject=upload.name, detail=f"{size} bytes, upload {upload.id}")
        storage().uploads.begin(upload.id)
    logger.info("upload begun id=%s size=%d by=%r", upload.id, size, created_by)
    return upload


def get_upload(upload_id: str) -> tuple[Upload, int]:
    """An upload, and how many of its bytes have arrived. Raises NotFound."""
    upload = db.session.get(Upload, upload_id)
    if upload is None:
        raise NotFound("no upload has this id", hint="It may be over; start again.")
    return upload, storage().uploads.received(upload_id)


def take_part(upload_id: str, offset: int, blocks: Iterable[bytes]) -> int:
    """Append a part at `offset`; return how many bytes have arrived.

    Raises NotFound, Conflict for another offset, InvalidInput for too many bytes or a file
    that is not a dump, StorageError.
    """
    upload, _ = get_upload(upload_id)
    size = upload.size
    db.session.commit()
    received = storage().uploads.append(upload_id, offset, _at_most(blocks, size - offset))
    with storage().uploads.open(upload_id) as file:
        head = file.read(_HEAD)
    if not MAGIC.startswith(head[: len(MAGIC)]):
        drop_upload(upload_id)
        raise _not_a_dump(head)
    return received


@acting
def finish_upload(upload_id: str, *, trigger: Trigger, created_by: str) -> DatabaseBackup:
    """Turn a complete upload into a PENDING backup, which a worker reads back.

    Raises NotFound, Conflict if bytes are missing, InvalidInput if it is not a dump.
    """
    backup = _insert(upload_id, trigger, created_by)
    wake_worker(backup)
    return backup


@acting
def drop_upload(upload_id: str) -> None:
    """Remove an upload, if there is one."""
    with writing() as session:
        session.execute(delete(Upload).where(Upload.id == upload_id))
    storage().uploads.remove(upload_id)


@acting
def import_file(
    path: Path, *, notes: str = "", on_progress: Callable[[Progress], None] | None = None
) -> DatabaseBackup:
    """Import a copy of a local dump in this process; return its row when it has ended.

    Raises InvalidInput, Conflict, StorageError.
    """
    if path.is_dir():
        what = tell_what_it_is(b"", is_folder=True)
        raise InvalidInput(f"{path} cannot be read", detail="It is a folder.", hint=what)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            upload = begin_upload(path.name, size, notes=notes, created_by=own_user())
            upload_id = upload.id
            try:
                take_part(upload_id, 0, iter(lambda: file.read(_BLOCK), b""))
                backup = _insert(upload_id, Trigger.CLI, own_user())
            except BaseException:
                drop_upload(upload_id)
                raise
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read", detail=f"{error.strerror}.") from error
    filename = backup.filename
    run_backup.call_local(upload_id, None, telling(on_progress, lambda: get_backup(filename)))
    return ended_as(get_backup(filename))


def remove_old_uploads() -> None:
    """Remove uploads that did not grow for a day."""
    uploads = storage().uploads
    for upload_id in uploads.remove_old():
        logger.info("upload forgotten id=%s", upload_id)
    with writing() as session:
        for upload in list(session.scalars(select(Upload))):
            if not uploads.path_of(upload.id).exists():
                session.delete(upload)


def _not_a_dump(head: bytes) -> InvalidInput:
    return InvalidInput("this is not a dump in pg_dump's custom format", hint=tell_what_it_is(head))


def _insert(upload_id: str, trigger: Trigger, created_by: str) -> DatabaseBackup:
    upload, received = get_upload(upload_id)
    if received != upload.size:
        raise Conflict(
            f"{upload.size - received} bytes of the upload are missing",
            hint=f"Continue at byte {received}.",
        )
    name, notes = upload.name, upload.notes
    db.session.commit()
    try:
        with storage().uploads.open(upload_id) as file:
            dbname = clean_name(read_header(file).database) or name
    except DumpError:
        drop_upload(upload_id)
        raise _not_a_dump(MAGIC) from None
    notes = f"{notes}\n{name}".strip() if name not in notes else notes
    backup = insert_pending(trigger, created_by, notes[-2000:], of=Imported(upload_id, dbname))
    with writing() as session:
        session.execute(delete(Upload).where(Upload.id == upload_id))
    return backup


def _refuse_without_space(size: int, others: list[Upload]) -> None:
    uploads = storage().uploads
    coming = sum(
        upload.size - uploads.received(upload.id)
        for upload in others
        if uploads.path_of(upload.id).exists()
    )
    free = storage().free_space() - coming
    if size > free:
        missing = humanize.naturalsize(size - free, binary=True)
        raise StorageFull(
            f"there is no room for this dump: {missing} are missing",
            hint="Delete old backups, free some space, or move BACKSTOP_BACKUP_DIR.",
        )


def _at_most(blocks: Iterable[bytes], left: int) -> Iterator[bytes]:
    for block in blocks:
        left -= len(block)
        if left < 0:
            raise InvalidInput("the upload is longer than its announced size")
        yield block
