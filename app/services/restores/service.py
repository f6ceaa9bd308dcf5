"""The shared restore service: every face starts its drills and restores here."""

import logging
from collections.abc import Callable, Sequence

from cuid2 import create_id
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import undefer

from app.errors import Conflict, ConnectError, InvalidInput, NotFound
from app.extensions import db, writing
from app.logs import errors_logged
from app.models import ActOutcome, Kind, Restore, Status
from app.postgres.selection import Name
from app.programs.command import Line
from app.queue import proofs_queue, restores_queue
from app.services.access.sign_in import Confirm, at_the_terminal
from app.services.audit.acting import acting, tell
from app.services.databases.connections import reached
from app.services.jobs import claims
from app.services.jobs.progress import Progress, wait_for_end
from app.services.jobs.run import telling
from app.services.jobs.settling import settle_dead_jobs
from app.services.restores import drill_server, in_place, preview, scratch, swap
from app.services.restores.preview import Preview
from app.services.restores.request import RestoreRequest, target_of
from app.services.restores.run import run_claimed
from app.services.restores.source import Source

logger = logging.getLogger(__name__)

MAX_LIMIT = 200  # restores in one answer


@acting
def queue_restore(
    request: RestoreRequest, *, restore_id: str = "", confirm: Confirm = at_the_terminal
) -> Restore:
    """Queue a drill or a restore of a completed backup; return its PENDING row at once.

    Raises Conflict if the backup is not COMPLETED or another restore is running, and
    InvalidInput for a wrong name or an unconfirmed superuser. Before the live database is
    changed, raises whatever `confirm` raises. Except for a drill, whose row records it,
    also raises what blocks it on the server: Conflict, NotPossible, StorageError.
    """
    if request.kind in (Kind.REPLACE, Kind.IN_PLACE):
        confirm()
    if request.kind is not Kind.DRILL:
        _refuse_at_once(request)
    restore = _insert(request, restore_id or create_id())
    _wake_worker(restore)
    return restore


@acting
def create_restore(
    request: RestoreRequest,
    *,
    on_line: Line | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Restore:
    """Restore in this process and return the row when it has ended, like `create_backup`."""
    restore_id = _insert(request, create_id(), is_ours=True).id
    on_news = telling(on_progress, lambda: get_restore(restore_id))
    run_claimed(restore_id, on_line, on_news)
    restore = get_restore(restore_id)
    if not restore.is_completed:
        tell(outcome=ActOutcome.FAILED, detail=restore.error_message)
    return restore


@restores_queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_restore(restore_id: str) -> None:
    """Claim a queued restore and run it to its end, unless another worker has it."""
    if claims.claim(restore_id, Restore):
        run_claimed(restore_id)


@proofs_queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def run_drill(restore_id: str) -> None:
    """The same for a drill, in threads of its own."""
    run_restore.call_local(restore_id)


def run_unclaimed() -> None:
    """Wake a worker for restores that nobody has claimed, in case their tasks were lost."""
    waiting = select(Restore).where(Restore.status == Status.PENDING, Restore.claimed_by.is_(None))
    for restore in list(db.session.scalars(waiting)):
        _wake_worker(restore)
    db.session.commit()


def _wake_worker(restore: Restore) -> None:
    """Queue its task, unless that is already queued."""
    queue, run = (proofs_queue, run_drill) if restore.is_drill else (restores_queue, run_restore)
    queue.wake(run, restore.id)


def get_restore(restore_id: str) -> Restore:
    """The restore with this id, and its log. Raises NotFound."""
    by_id = (
        select(Restore)
        .where(Restore.id == restore_id)
        .options(undefer(Restore.log))
        .execution_options(populate_existing=True)
    )
    restore = db.session.scalar(by_id)
    if restore is None:
        raise NotFound("no restore has this id", hint="flask restore list shows all.")
    return restore


def find_undoable() -> Restore:
    """The newest replace that can be undone. Raises NotFound."""
    kept = select(Restore).where(
        Restore.status == Status.COMPLETED,
        Restore.kind == Kind.REPLACE,
        Restore.kept.is_not(None),
        Restore.dropped_at.is_(None),
        Restore.undone_at.is_(None),
    )
    restore = db.session.scalar(kept.order_by(Restore.created_at.desc()).limit(1))
    if restore is None:
        raise NotFound(
            "there is no replace that can be undone", hint="flask restore list shows all."
        )
    return restore


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
    """Cancel a pending restore: it becomes FAILED.

    Raises NotFound, and Conflict if it has ended.
    """
    with errors_logged("settling dead jobs"):
        settle_dead_jobs()
    with writing():
        restore = get_restore(restore_id)
        if not restore.is_pending:
            raise Conflict(f"this restore has ended already: it is {restore.status.value}")
        restore.cancel(by)
    logger.info("restore cancelled id=%s by=%r", restore_id, by)


def wait_for_restore(restore_id: str, seconds: float) -> Restore:
    """The restore once it has ended, or as it is after this time. Raises NotFound."""
    return wait_for_end(lambda: get_restore(restore_id), seconds)


@acting
def undo_restore(restore_id: str, *, by: str, confirm: Confirm = at_the_terminal) -> str:
    """Bring back the database that a restore has replaced; return the other's new name.

    Raises NotFound, Conflict, PostgresError, and whatever `confirm` raises.
    """
    if not get_restore(restore_id).can_be_undone:
        raise swap.not_undoable()
    confirm()
    return swap.undo(restore_id, by=by)


@acting
def drop_kept(restore_id: str, *, by: str, confirm: Confirm = at_the_terminal) -> None:
    """Drop the database that a replace, or its undo, has set aside.

    Raises NotFound, Conflict if there is none, PostgresError, and whatever `confirm` raises.
    """
    if not get_restore(restore_id).has_kept:
        raise Conflict("this restore has no database to drop")
    confirm()
    scratch.drop_kept(restore_id)
    logger.info("kept database dropped restore=%s by=%r", restore_id, by)


def preview_restore(
    source: Source,
    kind: Kind,
    into: str = "",
    tables: Sequence[Name] = (),
    *,
    as_superuser: bool | None = None,
) -> Preview:
    """What a restore would do, before it is requested.

    Without a decision on superusers (None), the preview says whether one is needed. Raises
    as `queue_restore`, and ConnectError if the server cannot be reached.
    """
    target = target_of(source, kind, into, tables)
    return preview.look_ahead(source, kind, target, tables, as_superuser=as_superuser)


def _refuse_at_once(request: RestoreRequest) -> None:
    """Raise what is known to block a restore, unless only the worker can reach the server."""
    try:
        preview_restore(
            request.source,
            request.kind,
            request.into,
            request.tables,
            as_superuser=request.as_superuser,
        )
    except ConnectError as error:
        logger.warning("restore not checked beforehand error=%r", error.in_words())


def _insert(request: RestoreRequest, restore_id: str, *, is_ours: bool = False) -> Restore:
    """A new row; `is_ours` claims it for this process, so that no worker takes it over."""
    kind, filename = request.kind, request.source.filename
    target = target_of(request.source, kind, request.into, request.tables)
    if kind is Kind.IN_PLACE:
        with reached(request.source.database) as live:
            in_place.refuse_superuser(live, as_superuser=request.as_superuser)
    prefix = scratch.THROWAWAY if drill_server.is_throwaway(kind) else scratch.PREFIX
    working = f"{prefix}{restore_id}"
    restore = Restore(
        id=restore_id,
        filename=filename,
        kind=kind,
        database_id=request.source.database.id,
        server=request.source.database.server,
        database=target or working,
        working=working,
        as_superuser=request.as_superuser,
        schedule_id=request.schedule_id,
        tables=[{"schema": schema, "name": name} for schema, name in request.tables] or None,
        trigger=request.trigger,
        created_by=request.created_by[:255],
    )
    if is_ours:
        restore.claim(claims.runner())
    try:
        with writing() as session:
            session.add(restore)
    except IntegrityError as error:
        raise _another_is_running(request) from error
    tell(subject=filename, detail=f"{kind.value}: {restore_id}, database {restore.database}")
    logger.info("restore queued kind=%s filename=%s", kind.value, filename)
    return restore


def _another_is_running(request: RestoreRequest) -> Conflict:
    kind = request.kind
    pending = preview.find_in_the_way(kind, request.source.database)
    return Conflict(
        f"another {'drill' if kind is Kind.DRILL else 'restore'} is running",
        detail=f"It is the {pending.kind.value} of {pending.filename}." if pending else "",
        hint="Wait until it has ended, or cancel it.",
    )
