"""The life of one restore: check the dump, load it beside, compare, and only then use it."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

from app.config import settings
from app.errors import (
    AppError,
    Interrupted,
    NotPossible,
    PostgresError,
    RestoreError,
    VerificationError,
)
from app.extensions import writing
from app.models import Kind, Restore
from app.models.types import now
from app.postgres.archive import Entry, read_entries
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server, maintenance, serving
from app.postgres.locking import hold_lock
from app.postgres.restore import Options, Plan
from app.postgres.selection import narrowed, select
from app.programs.command import Line
from app.services.backups.free_space import refuse_restore_without_space
from app.services.backups.service import create_backup
from app.services.databases.configured import storage
from app.services.databases.connections import reached
from app.services.jobs.outcomes import record_failure
from app.services.proofs import ask
from app.services.restores import drill_load, drill_server, in_place, obstacles, scratch
from app.services.restores.effect import fail_unless_effective
from app.services.restores.giving_back import give_back
from app.services.restores.load import Loader, RestoreRun
from app.services.restores.obstacles import Intent
from app.services.restores.order import Order, read_order
from app.services.restores.placing import put_in_place
from app.services.restores.refresh import refuse_others
from app.services.restores.verdict import record_error, record_verdict, store_proofs
from app.storages import sha256_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Task:
    """A restore that runs, and the entries of the archive that it loads."""

    run: RestoreRun
    order: Order
    entries: list[Entry]
    hear: Line  # takes the lines of pg_restore

    def serving(self, info: Conninfo) -> AbstractContextManager[Server]:
        """A session there, which a cancel ends."""
        return serving(info, application_name=self.order.application_name, on_wait=self.run.check)

    def loader(self, server: Server) -> Loader:
        """Loads with the programs that fit this server."""
        order = self.order
        toolchain = obstacles.toolchain_for(order.backup, server)
        return Loader(self.run, order, toolchain, server.version, self.hear)

    def refuse(self, server: Server) -> Plan:
        """Raise what is known to block the restore; otherwise plan who loads what."""
        order = self.order
        plan = obstacles.divide(self.entries, order.contents, server)
        size, rules = order.database_size, order.as_superuser
        if order.kind is Kind.REFRESH:
            refuse_others(server, order)
        obstacles.refuse(
            server, Intent(order.kind, order.database, order.contents, plan, size, rules)
        )
        return plan


def run_claimed(
    restore_id: str, on_line: Line | None = None, on_news: Callable[[], None] = lambda: None
) -> None:
    """Run a restore that this process has claimed, to COMPLETED or FAILED.

    As `backups.run.run_claimed`. An error that speaks against the backup becomes a failed
    proof.
    """
    run = RestoreRun(restore_id, limit=settings().restore_timeout, on_news=on_news)
    try:
        order = read_order(restore_id)
    except AppError as error:  # the backup was deleted meanwhile
        record_failure(restore_id, error, job=Restore)
        return
    start = time.monotonic()

    def hear(line: str) -> None:
        run.hear(line)
        if on_line is not None:
            on_line(line)

    try:
        result = _restore(run, order, hear)
    except AppError as error:
        record_error(run, order, error, time.monotonic() - start)
    except BaseException:
        interrupted = Interrupted(
            "the restore was interrupted",
            detail="Its process was ended, or met a defect that its log shows.",
            hint="Start the restore again.",
        )
        fail_unless_effective(restore_id, interrupted, run.log.text())
        raise
    else:
        with writing() as session:
            row = session.get_one(Restore, restore_id, with_for_update=True)
            row.result, row.log = result, run.log.text()
            store_proofs(run, order)
            row.complete(now())
        logger.info("restore completed kind=%s filename=%s", order.kind.value, order.filename)


def _restore(run: RestoreRun, order: Order, hear: Line) -> dict[str, Any]:
    """Returns the result for the row."""
    task = _Task(run, order, _check_dump(run, order), hear)
    if order.contents.get("rowsOnly"):
        raise NotPossible(
            "the dump holds rows alone, and no table (pg_dump --data-only)",
            hint="Load it by hand into a database that has the tables: pg_restore --data-only.",
        )
    if order.is_throwaway:
        return _drill_apart(task)
    with reached(order.guarded, run.check) as live:
        return _restore_on_server(replace(task, order=order.reaching(live)))


def _restore_on_server(task: _Task) -> dict[str, Any]:
    order, live = task.order, task.order.live
    if order.kind is Kind.IN_PLACE:
        return _load_in_place(task)
    if order.kind is Kind.REPLACE:
        return _replace(task, live)
    if order.kind is Kind.DRILL:
        drill_server.refuse_live_server(live)
    info = scratch.server_of(order.kind, live)
    return _restore_tables(task, info) if order.tables else _make(task, info)


def _check_dump(run: RestoreRun, order: Order) -> list[Entry]:
    """The table of contents of a dump that has not changed by a single byte."""
    run.phase = "checking"
    run.rows = order.rows
    run.check(now_at_once=True)
    with storage().open(order.filename) as file:
        size = file.seek(0, 2)
        file.seek(0)
        if (
            size != order.backup.size
            or sha256_of(file, on_block=lambda _: run.check()) != order.backup.sha256
        ):
            raise VerificationError(
                f"{order.filename} is not what it was when it was made",
                hint="Do not restore it; flask backup check shows which dumps are whole.",
            )
        return read_entries(file)


def _drill_apart(task: _Task) -> dict[str, Any]:
    """Prove the dump on a server of its own."""
    run, order, entries = task.run, task.order, task.entries
    with drill_server.server_for(run, order, entries) as server:
        if not server.is_isolated:
            drill_load.refuse_for_superusers(order, entries, server)
            drill_load.prepare(server, order, entries)
            return _make(task, server.info) | {"server": server.described}
        result, asserted = drill_load.load_and_compare(server, run, order, entries, task.hear)
        run.check(now_at_once=True)  # a cancelled drill does not complete
        record_verdict(run, order, result, asserted)
        return result | asserted.in_result


def _restore_tables(task: _Task, info: Conninfo) -> dict[str, Any]:
    """Make a database of some tables, and list what could not be restored with them."""
    selection = select(task.entries, task.order.tables)
    order = replace(task.order, contents=narrowed(task.order.contents, selection))
    task.run.rows = order.rows
    try:
        result = _make(replace(task, order=order, entries=selection.entries), info)
    except RestoreError as error:
        raise RestoreError(
            "these tables cannot be restored on their own",
            detail=error.detail,
            hint="What the text of a function uses is not known: choose more, or restore all.",
        ) from error
    return result | {
        "leftOut": [*result["leftOut"], *selection.left_out],
        "definitions": selection.definitions,
        "notCompared": [
            *result["notCompared"],
            "everything except the chosen tables and what they need",
        ],
    }


def _load_in_place(task: _Task) -> dict[str, Any]:
    """Load the dump over the live database, all or nothing, and compare the result."""
    run, order, entries = task.run, task.order, task.entries
    info, name, rules = in_place.signing_in(order.live), order.application_name, order.as_superuser
    with task.serving(info) as server:
        loader = task.loader(server)
        # Now, rather than after the backup of the live database.
        refuse_restore_without_space(server, order.database_size)
        in_place.prepare(server, order.contents, entries, as_superuser=rules)
    _save_live(task)
    with (  # no backup starts meanwhile; the lock has another name, because the rest may be ended
        hold_lock(order.live, application_name=f"{name} lock", on_wait=run.check),
        task.serving(info) as server,
    ):
        prepared = in_place.prepare(server, order.contents, entries, as_superuser=rules)
        run.check(now_at_once=True)
        run.phase = "loading"
        start = time.monotonic()
        with in_place.loading(info, order.id, prepared) as check_locks:
            options = Options(with_owners=True, over_live=True)
            loader.load(info, prepared.entries, options, check_live=check_locks)
        run.phase = "comparing"
        counted = loader.count(info)
        seconds = round(time.monotonic() - start, 3)
        return in_place.compare(server, order.contents, prepared, counted) | {"seconds": seconds}


def _replace(task: _Task, info: Conninfo) -> dict[str, Any]:
    """Back up the live database, then make the new one and swap them."""
    order = task.order
    with serving(maintenance(info), application_name=order.application_name) as server:
        task.refuse(server)
        scratch.try_to_sign_in(server, info, order.id, order.working)
    _save_live(task)
    with ExitStack() as lock:  # no backup starts of a database that is about to be replaced
        name = order.application_name
        lock.enter_context(hold_lock(info, application_name=name, on_wait=task.run.check))
        return _make(task, info, unlock=lock.close)


def _save_live(task: _Task) -> None:
    """Back up the live database as it is now."""
    run, order = task.run, task.order
    run.phase = "saving"
    saved = create_backup(
        order.guarded,
        trigger=order.trigger,
        created_by=order.created_by,
        notes=f"Before the restore of {order.filename}",
        on_line=task.hear,
        on_progress=lambda _: run.check(),
    )
    run.check(now_at_once=True)
    if not saved.is_completed:
        raise PostgresError(
            "the backup of the live database failed, so it is left unchanged",
            detail=f"{saved.filename}: {saved.error_message}",
            hint=saved.error_hint,
        )
    filename = saved.filename
    with writing() as session:
        session.get_one(Restore, order.id).safety_backup = filename


def _make(
    task: _Task, info: Conninfo, *, unlock: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Make a database of the dump and compare it; then drop it, or give it its name."""
    run, order = task.run, task.order
    with task.serving(maintenance(info) if order.kind is Kind.REPLACE else info) as server:
        loader = task.loader(server)
        plan = task.refuse(server)  # now, rather than after everything is loaded
        rules = order.as_superuser and obstacles.may_load_as_superuser(server, order.contents)
        with scratch.working_database(
            server, info, order.id, order.working, order.contents, as_superuser=rules
        ) as (role, admin):
            start = time.monotonic()
            with loader.watching(server.info):
                loader.load_all(plan, role, admin)
                run.phase = "comparing"
                counted = loader.count(role)
            seconds = time.monotonic() - start
            run.phase = "asserting"  # while the role without rights owns everything
            asserted = ask.ask(order, loader.toolchain, role, admin, on_wait=run.check)
            if order.sql and asserted.is_satisfied:
                loader.run_sql(role, server.info)
            result = give_back(loader, plan, role, admin, counted)
            result["seconds"] = round(seconds, 3)
            run.check(now_at_once=True)  # a cancelled restore does not complete
            record_verdict(run, order, result, asserted)
            result |= asserted.in_result
            if order.kind is Kind.DRILL:
                del result["keepsRole"], result["staysShut"]
                return result
            return result | put_in_place(run, order, server, result, unlock)
