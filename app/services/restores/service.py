"""The shared restore service: drills and restores, asked for over any face."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from cuid2 import create_id
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import undefer

from app.errors import Conflict, ConnectError, Interrupted, InvalidInput, NotFound
from app.extensions import db, writing
from app.host import own_user
from app.logs import errors_logged
from app.models import ActOutcome, Kind, Restore, Status, Trigger
from app.pausing import pause
from app.postgres.command import Line
from app.postgres.databases import NAME_BYTES, cut_name
from app.postgres.selection import Name
from app.queue import FAILURES, proofs_queue, restores_queue
from app.services.access.sign_in import Confirm, at_the_terminal
from app.services.audit.acting import acting, tell
from app.services.backups.listing import get_backup
from app.services.databases.configured import database_name
from app.services.jobs import claims
from app.services.jobs.progress import Progress
from app.services.jobs.run import telling
from app.services.jobs.settling import settle_dead_jobs
from app.services.restores import drill_server, in_place, preview, scratch, swap
from app.services.restores import tables as contents
from app.services.restores.run import run_claimed

logger = logging.getLogger(__name__)

MAX_LIMIT = 200  # restores in one answer

_POLL = 0.1  # seconds between two looks at a row that is waited for


@acting
def queue_restore(
    filename: str,
    kind: Kind,
    *,
    trigger: Trigger,
    created_by: str,
    into: str = "",
    tables: Sequence[Name] = (),
    as_superuser: bool = False,
    restore_id: str = "",
    confirm: Confirm = at_the_terminal,
) -> Restore:
    """Ask for a drill or a restore of a completed backup; returns its PENDING row at once.

    A `restore_id` that was chosen before becomes the row's.
    `into` is the new database of a restore beside (`proposed_name` without);
    the others name theirs themselves. Into such a database some `tables` can be
    restored without the others. `as_superuser` says that a superuser may
    run what is hidden in the dump as one. Raises NotFound, Conflict if the
    backup is not COMPLETED or another restore runs, InvalidInput for a name or
    a superuser of whom nothing was said, and what `confirm` raises before the living
    database is touched; but for a drill, whose row tells it,
    also what stands in the way on the server: Conflict, NotPossible, StorageError.
    """
    if kind in (Kind.REPLACE, Kind.IN_PLACE):
        confirm()
    if kind is not Kind.DRILL:
        _refuse_at_once(filename, kind, into, tables, as_superuser=as_superuser)
    restore = _insert(
        filename,
        kind,
        trigger=trigger,
        created_by=created_by,
        into=into,
        tables=tables,
        as_superuser=as_superuser,
        restore_id=restore_id or create_id(),
    )
    _wake_worker(restore)
    return restore


@acting
def create_restore(
    filename: str,
    kind: Kind,
    *,
    trigger: Trigger,
    created_by: str | None = None,
    into: str = "",
    tables: Sequence[Name] = (),
    as_superuser: bool = False,
    on_line: Line | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Restore:
    """Restore in this process and return the row when it has ended, as `create_backup`."""
    created_by = created_by if created_by is not None else own_user()
    restore = _insert(
        filename,
        kind,
        trigger=trigger,
        created_by=created_by,
        into=into,
        tables=tables,
        as_superuser=as_superuser,
        restore_id=create_id(),
        is_ours=True,
    )
    restore_id = restore.id
    on_news = telling(on_progress, lambda: get_restore(restore_id))
    run_claimed(restore_id, on_line, on_news)
    restore = get_restore(restore_id)
    if not restore.is_completed:
        tell(outcome=ActOutcome.FAILED, detail=restore.error_message)
    return restore


@restores_queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_restore(
    restore_id: str, on_line: Line | None = None, on_news: Callable[[], None] = lambda: None
) -> None:
    """Claim a queued restore and run it to its end, unless somebody else does."""
    if claims.claim(restore_id, Restore):
        run_claimed(restore_id, on_line, on_news)


@proofs_queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_drill(restore_id: str) -> None:
    """The same for a drill, by threads of its own."""
    run_restore.call_local(restore_id)


def run_unclaimed() -> None:
    """Wake a worker for a restore that nobody has taken, if its task was lost."""
    waiting = select(Restore).where(Restore.status == Status.PENDING, Restore.claimed_by.is_(None))
    for restore in list(db.session.scalars(waiting)):
        _wake_worker(restore)
    db.session.commit()


def _wake_worker(restore: Restore) -> None:
    """Queue its task, unless that waits already."""
    queue, run = (proofs_queue, run_drill) if restore.is_drill else (restores_queue, run_restore)
    try:
        if not queue.holds(restore.id):
            run(restore.id)
    except FAILURES as error:
        # The row is what counts: a worker finds it at its next look.
        logger.warning("worker not woken restore=%s error=%r", restore.id, str(error))


def get_restore(restore_id: str) -> Restore:
    """The restore of this id, with its log. Raises NotFound."""
    by_id = (
        select(Restore)
        .where(Restore.id == restore_id)
        .options(undefer(Restore.log))
        .execution_options(populate_existing=True)
    )
    found = db.session.scalar(by_id)
    if found is None:
        raise NotFound("no restore has this id", hint="flask restore list shows all.")
    return found


def list_restores(*, filename: str = "", limit: int = 50) -> list[Restore]:
    """The newest restores and drills, of one backup or of all. Raises InvalidInput."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}")
    chosen = select(Restore).order_by(Restore.created_at.desc(), Restore.id.desc()).limit(limit)
    if filename:
        chosen = chosen.where(Restore.filename == filename)
    return list(db.session.scalars(chosen))


@acting
def cancel_restore(restore_id: str, *, by: str) -> None:
    """Ask for the end of a pending restore: it will be FAILED as cancelled.

    Raises NotFound, Conflict if it has ended.
    """
    with errors_logged("settling dead jobs"):
        settle_dead_jobs()
    with writing():
        restore = get_restore(restore_id)
        if not restore.is_pending:
            raise Conflict(f"this restore has ended already: it is {restore.status.value}")
        restore.cancelled_by = restore.cancelled_by or by[:255]
        if restore.claimed_by is None:
            restore.fail(Interrupted(f"cancelled by {restore.cancelled_by}"))
    logger.info("restore cancelled id=%s by=%r", restore_id, by)


def wait_for_restore(restore_id: str, seconds: float) -> Restore:
    """The restore when it has ended, or as it is after so many seconds. Raises NotFound."""
    deadline = time.monotonic() + seconds
    while True:
        restore = get_restore(restore_id)
        if not restore.is_pending or time.monotonic() >= deadline:
            return restore
        db.session.commit()  # the next look shall see what others have written
        pause(_POLL)


@acting
def undo_restore(restore_id: str, *, by: str, confirm: Confirm = at_the_terminal) -> str:
    """Bring back the database that a restore has replaced; returns the other's new name.

    Raises NotFound, Conflict, PostgresError, and what `confirm` raises.
    """
    if not get_restore(restore_id).can_be_undone:
        raise Conflict("this restore cannot be undone: nothing of before is kept")
    confirm()
    return swap.undo(restore_id, by=by)


@acting
def drop_kept(restore_id: str, *, by: str, confirm: Confirm = at_the_terminal) -> None:
    """Drop the database that a replace, or its undo, has set aside.

    Raises NotFound, Conflict where there is none, PostgresError, and what `confirm` raises.
    """
    if not get_restore(restore_id).has_kept:
        raise Conflict("this restore has no database to drop")
    confirm()
    scratch.drop_kept(restore_id)
    logger.info("kept database dropped restore=%s by=%r", restore_id, by)


def proposed_name(filename: str) -> str:
    """A free-looking name for a restore beside: the database's, and when it was backed up."""
    backup = get_backup(filename)
    return cut_name(backup.database, f"_restored_{backup.created_at:%Y%m%dT%H%M%S}")


def refuse_unconfirmed(filename: str, confirmed: str) -> None:
    """Raise InvalidInput unless the database that is replaced was called by its name.

    Each face asks for it before it asks for a replace, or for a restore in place.
    """
    database = get_backup(filename).database
    if confirmed.strip() != database.strip():
        raise InvalidInput(
            f"type {database} to replace it", hint="It takes the place of what lives."
        )


def tell_before(
    filename: str,
    kind: Kind,
    into: str = "",
    tables: Sequence[Name] = (),
    *,
    as_superuser: bool | None = None,
) -> dict[str, Any]:
    """What a restore would do, before it is asked for.

    `sessions` counts those connected to the living database, `owner` had it
    when it was dumped, `missingRoles` are what the server lacks, and
    `missingRolesSql` creates them. Sizes are in bytes; `freeBytes` is None
    where it cannot be seen from here. `definitions` are tables that come
    without rows, since some `tables` need them. In place, `stays` was made
    since the backup, `goes` too but belongs to what is dropped, and `powers` is
    the role with whose rights the dump's code would run. Raises as
    `queue_restore`, and ConnectError where the server cannot be asked.
    """
    target = _checked_target(filename, kind, into, tables)
    return preview.tell(get_backup(filename), kind, target, tables, as_superuser=as_superuser)


def _refuse_at_once(
    filename: str, kind: Kind, into: str, tables: Sequence[Name], *, as_superuser: bool
) -> None:
    """Raise what is known to end a restore; a server that only the worker reaches is not asked."""
    try:
        tell_before(filename, kind, into, tables, as_superuser=as_superuser)
    except ConnectError as error:
        logger.warning("not looked before a restore error=%r", error.in_words())


def _insert(
    filename: str,
    kind: Kind,
    *,
    trigger: Trigger,
    created_by: str,
    into: str,
    tables: Sequence[Name],
    as_superuser: bool,
    restore_id: str,
    is_ours: bool = False,
) -> Restore:
    """A new row; `is_ours`: claimed by this process, so that no worker takes what dies here."""
    target = _checked_target(filename, kind, into, tables)
    if kind is Kind.IN_PLACE:
        in_place.refuse_superuser(as_superuser=as_superuser)
    name = database_name()
    apart = drill_server.is_throwaway(kind)
    working = f"{scratch.THROWAWAY if apart else scratch.PREFIX}{restore_id}"
    restore = Restore(
        id=restore_id,
        filename=filename,
        kind=kind,
        server=name.server,
        database=target or working,
        working=working,
        as_superuser=as_superuser,
        tables=[{"schema": schema, "name": name} for schema, name in tables] or None,
        trigger=trigger,
        created_by=created_by[:255],
    )
    if is_ours:
        restore.claim(claims.runner())
    try:
        with writing() as session:
            session.add(restore)
    except IntegrityError as error:
        pending = preview.find_in_the_way(kind)
        raise Conflict(
            f"another {'drill' if kind is Kind.DRILL else 'restore'} is running",
            detail=f"It is the {pending.kind.value} of {pending.filename}." if pending else "",
            hint="Wait until it has ended, or cancel it.",
        ) from error
    tell(subject=filename, detail=f"{kind.value}: {restore_id}, database {restore.database}")
    logger.info("restore queued kind=%s filename=%s", kind.value, filename)
    return restore


def _checked_target(filename: str, kind: Kind, into: str, tables: Sequence[Name]) -> str:
    """The name that the new database shall have in the end; empty for a drill."""
    backup = get_backup(filename)
    if not backup.is_completed:
        raise Conflict(f"{filename} is {backup.status.value} and has no dump")
    if into and kind is not Kind.BESIDE:
        raise InvalidInput(
            "only a restore beside makes a database of another name", hint="Leave the name out."
        )
    if tables and kind is not Kind.BESIDE:
        raise InvalidInput(
            "some tables are restored beside only, into a database of their own",
            hint="Copy from there what you need.",
        )
    contents.refuse_unknown(filename, tables)
    if kind is Kind.DRILL:
        return ""
    if kind in (Kind.REPLACE, Kind.IN_PLACE):
        if backup.foreign:
            raise Conflict(
                "a foreign dump is never put in the place of a living database",
                hint="Restore it beside, and look at it.",
            )
        if (backup.server, backup.database) != database_name():
            raise Conflict(
                f"{filename} is of another database than the one that is configured",
                detail=f'It is of "{backup.database}" on {backup.server}.',
                hint="Restore it beside.",
            )
        return backup.database
    target = into or proposed_name(filename)
    if len(target.encode()) > NAME_BYTES or not target.isprintable() or target != target.strip():
        raise InvalidInput(
            f"a database's name has at most {NAME_BYTES} bytes and no control characters"
        )
    if target == backup.database or target.startswith(scratch.PREFIX):
        raise InvalidInput(
            f'"{target}" cannot be the name of the new database', hint="Choose another name."
        )
    return target
