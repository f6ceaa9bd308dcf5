"""The life of one restore: check the dump, load it beside, compare, and only then use it."""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
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
from app.extensions import db, writing
from app.models import DatabaseBackup, Kind, Level, Proof, Restore, Result
from app.models.types import now
from app.postgres.archive import Entry, read_entries
from app.postgres.command import Line
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server, maintenance, serving
from app.postgres.locking import hold_lock
from app.postgres.restore import Plan
from app.postgres.selection import narrowed, select
from app.services.backups.free_space import refuse_restore_without_space
from app.services.backups.listing import get_backup
from app.services.backups.service import create_backup
from app.services.databases.configured import configured_database, storage
from app.services.jobs.outcomes import record_failure
from app.services.proofs import ask
from app.services.proofs.ask import Asserted
from app.services.proofs.records import judge
from app.services.restores import drill_load, drill_server, in_place, preview, scratch
from app.services.restores.effect import has_taken_effect
from app.services.restores.giving_back import give_back
from app.services.restores.load import Loader, Order, RestoreRun
from app.services.restores.placing import put_in_place
from app.storages import sha256_of

logger = logging.getLogger(__name__)


def run_claimed(
    restore_id: str, on_line: Line | None = None, on_news: Callable[[], None] = lambda: None
) -> None:
    """Run a restore that this process has claimed, to COMPLETED or FAILED.

    As `backup_run.run_claimed`. What speaks against the backup becomes a proof that has failed.
    """
    run = RestoreRun(restore_id, limit=settings().restore_timeout, on_news=on_news)
    try:
        order = _order(restore_id)
    except AppError as error:  # the backup was deleted meanwhile
        record_failure(restore_id, error, job=Restore)
        return
    began = time.monotonic()

    def heard(line: str) -> None:
        run.heard(line)
        if on_line is not None:
            on_line(line)

    try:
        found = _restore(run, order, heard)
    except AppError as error:
        result = None if run.is_judged else _says_of_the_backup(error, order)
        if result is not None:
            told = {"differences": [error.in_words()]}
            _prove(order, result, time.monotonic() - began, told)
        _record_failure(restore_id, error, run.log.text())
    except BaseException:
        interrupted = Interrupted(
            "the restore was interrupted",
            detail="Its process was ended, or met a defect that its log tells.",
            hint="Start the restore again.",
        )
        _record_failure(restore_id, interrupted, run.log.text())
        raise
    else:
        with writing() as session:
            row = session.get_one(Restore, restore_id, with_for_update=True)
            row.result = found
            row.log = run.log.text()
            row.complete(now())
        logger.info("restore completed kind=%s filename=%s", order.kind.value, order.filename)


def _record_failure(restore_id: str, error: AppError, log: str) -> None:
    """Say that it has failed, unless it has happened; who cannot tell leaves it to a reconcile."""
    try:
        if has_taken_effect(restore_id):
            logger.warning(
                "restored all the same restore=%s error=%r", restore_id, error.in_words()
            )
            with writing() as session:
                session.get_one(Restore, restore_id, with_for_update=True).complete(now())
            return
    except AppError as unknown:
        logger.warning("left to a reconcile restore=%s error=%r", restore_id, unknown.in_words())
        return
    record_failure(restore_id, error, log, job=Restore)


def _says_of_the_backup(error: AppError, order: Order) -> Result | None:
    """What an error proves; None where nothing is to be written down.

    That some tables cannot be loaded by themselves, or all of it not over what
    lives, says nothing of the whole.
    """
    if isinstance(error, Interrupted):
        return None
    result = judge(error)
    if not order.is_of_all:
        return result if isinstance(error, VerificationError) else None
    asked = order.kind is Kind.DRILL or isinstance(error, NotPossible)
    return result if asked or result is Result.FAILED else None


def _order(restore_id: str) -> Order:
    row = db.session.get_one(Restore, restore_id)
    backup = get_backup(row.filename)
    order = Order(
        id=row.id,
        kind=row.kind,
        trigger=row.trigger,
        created_by=row.created_by,
        database=row.database,
        named=backup.database,
        working=row.working,
        filename=row.filename,
        backup_id=backup.id,
        size=backup.size,
        sha256=backup.sha256,
        oldest_reader=backup.oldest_reader or 0,
        foreign=backup.foreign,
        compression=backup.compression,
        database_size=backup.database_size or 2 * (backup.contents or {}).get("rowBytes", 0),
        major=int(backup.server_version.partition(".")[0] or 0),
        contents=backup.contents or {},
        tables=tuple((each["schema"], each["name"]) for each in row.tables or []),
        as_superuser=row.as_superuser,
    )
    db.session.commit()
    return order


def _restore(run: RestoreRun, order: Order, heard: Line) -> dict[str, Any]:
    """Returns what was found, for the row."""
    entries = _check_dump(run, order)
    if order.contents.get("rowsOnly"):
        raise NotPossible(
            "the dump holds rows alone, and no table (pg_dump --data-only)",
            hint="Load it by hand into a database that has the tables: pg_restore --data-only.",
        )
    if order.working.startswith(scratch.THROWAWAY):
        return _drill_apart(run, order, entries, heard)
    if order.kind is Kind.DRILL:
        drill_server.refuse_live_server()
    info = scratch.server_of(order.kind)
    if order.tables:
        return _make_tables(run, order, entries, info, heard)
    if order.kind is Kind.IN_PLACE:
        return _load_in_place(run, order, entries, heard)
    if order.kind is not Kind.REPLACE:
        return _make(run, order, entries, info, heard)
    with serving(maintenance(info), application_name=order.application_name) as server:
        _refuse(order, entries, server)
        scratch.try_to_sign_in(server, info, order.id, order.working)
    _save_living(run, order, heard)
    with ExitStack() as lock:  # no backup begins of what is about to be replaced
        name = order.application_name
        lock.enter_context(hold_lock(info, application_name=name, on_wait=run.check))
        return _make(run, order, entries, info, heard, let_go=lock.close)


def _drill_apart(
    run: RestoreRun, order: Order, entries: list[Entry], heard: Line
) -> dict[str, Any]:
    """Prove the dump on a server that is there for this drill alone."""
    with drill_server.server_for(run, order, entries) as server:
        if not server.is_isolated:
            drill_load.refuse_for_superusers(order, entries, server)
            drill_load.prepare(server, order, entries)
            return _make(run, order, entries, server.info, heard) | {"server": server.described}
        result, asserted = drill_load.load_and_compare(server, run, order, entries, heard)
        run.check(now_at_once=True)  # what was cancelled does not complete
        _judge(run, order, result, asserted)
        return result | asserted.in_result


def _refuse(order: Order, entries: list[Entry], server: Server) -> Plan:
    """Raise what is known to stand in the way; else who loads what."""
    apart = preview.divide(entries, order.contents, server)
    kind, target, size = order.kind, order.database, order.database_size
    preview.refuse(
        server, kind, target, order.contents, apart, size=size, as_superuser=order.as_superuser
    )
    return apart


def _make_tables(
    run: RestoreRun, order: Order, entries: list[Entry], info: Conninfo, heard: Line
) -> dict[str, Any]:
    """Make a database of some of the dump's tables, and tell what could not come with them."""
    selection = select(entries, order.tables)
    order = replace(order, contents=narrowed(order.contents, selection))
    run.rows = _rows_of(order)
    try:
        found = _make(run, order, selection.entries, info, heard)
    except RestoreError as error:
        hint = "What the text of a function names is not known: choose more, or restore all of it."
        raise RestoreError(
            "these tables cannot be restored by themselves", detail=error.detail, hint=hint
        ) from error
    return found | {
        "leftOut": [*found["leftOut"], *selection.left_out],
        "definitions": selection.definitions,
        "notCompared": [
            *found["notCompared"],
            "all that is neither a chosen table nor made for one",
        ],
    }


def _load_in_place(
    run: RestoreRun, order: Order, entries: list[Entry], heard: Line
) -> dict[str, Any]:
    """Load the dump over the living database, all or nothing, and look at what it is then."""
    info, name = in_place.signing_in(), order.application_name
    with serving(info, application_name=name, on_wait=run.check) as server:
        toolchain = preview.toolchain_for(order.oldest_reader, order.compression, server)
        loader = Loader(run, order, toolchain, server.version, heard)
        # Now, rather than after the living database was saved.
        refuse_restore_without_space(server, order.database_size)
        in_place.prepare(server, order.contents, entries, as_superuser=order.as_superuser)
    _save_living(run, order, heard)
    with (  # no backup begins meanwhile; the lock has another name, for the others may be ended
        hold_lock(configured_database(), application_name=f"{name} lock", on_wait=run.check),
        serving(info, application_name=name, on_wait=run.check) as server,
    ):
        prepared = in_place.prepare(
            server, order.contents, entries, as_superuser=order.as_superuser
        )
        run.check(now_at_once=True)
        run.phase = "loading"
        began = time.monotonic()
        with in_place.loading(info, order.id, prepared) as look:
            loader.load(info, prepared.entries, with_owners=True, over_living=look)
        run.phase = "comparing"
        found = loader.count(info)
        seconds = round(time.monotonic() - began, 3)
        return in_place.compared(server, order.contents, prepared, found) | {"seconds": seconds}


def _save_living(run: RestoreRun, order: Order, heard: Line) -> None:
    """A backup of the database as it is now, whatever comes."""
    run.phase = "saving"
    saved = create_backup(
        trigger=order.trigger,
        created_by=order.created_by,
        notes=f"Before the restore of {order.filename}",
        on_line=heard,
        on_progress=lambda _: run.check(),
    )
    run.check(now_at_once=True)
    if not saved.is_completed:
        raise PostgresError(
            "the living database could not be backed up before; it stays as it is",
            detail=f"{saved.filename}: {saved.error_message}",
            hint=saved.error_hint,
        )
    filename = saved.filename
    with writing() as session:
        session.get_one(Restore, order.id).safety_backup = filename


def _make(
    run: RestoreRun,
    order: Order,
    entries: list[Entry],
    info: Conninfo,
    heard: Line,
    *,
    let_go: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Make a database of the dump and compare it; then drop it, or give it its name."""
    where = maintenance(info) if order.kind is Kind.REPLACE else info
    with serving(where, application_name=order.application_name, on_wait=run.check) as server:
        toolchain = preview.toolchain_for(order.oldest_reader, order.compression, server)
        apart = _refuse(order, entries, server)  # now, rather than after everything is loaded
        rules = order.as_superuser and preview.may_load_as_superuser(server, order.contents)
        with scratch.working_database(
            server, info, order.id, order.working, order.contents, as_superuser=rules
        ) as (role, admin):
            loader = Loader(run, order, toolchain, server.version, heard)
            began = time.monotonic()
            with loader.watching(server.info):
                loader.load_all(apart, role, admin)
                run.phase = "comparing"
                found = loader.count(role)
            took = time.monotonic() - began
            run.phase = "asserting"  # while all of it belongs to who has no rights
            asserted = ask.ask(order, toolchain, role, admin, on_wait=run.check)
            result = give_back(loader, apart, role, admin, found)
            result["seconds"] = round(took, 3)
            run.check(now_at_once=True)  # what was cancelled does not complete
            _judge(run, order, result, asserted)
            result |= asserted.in_result
            if order.kind is Kind.DRILL:
                del result["keepsRole"], result["staysShut"]
                return result
            return result | put_in_place(run, order, server, result, let_go)


def _judge(run: RestoreRun, order: Order, result: dict[str, Any], asserted: Asserted) -> None:
    """Write down what was proven; raise for a drill that found something, and a false replace."""
    differing, seconds = result["differences"], result["seconds"]
    run.is_judged = True
    if "tables" in order.contents and not order.tables:  # else nothing to compare it all with
        proof = Result.FAILED if differing else Result.PASSED
        _prove(order, proof, seconds, result)
        proof = Result.NOT_POSSIBLE if asserted.unanswered else Result.PASSED
        proof = Result.FAILED if asserted.failures else proof
        if asserted.failures or (asserted.proves and not differing):
            took = seconds + asserted.seconds
            _prove(order, proof, took, asserted.evidence, Level.ASSERTED)
    if differing and order.kind is Kind.DRILL:
        raise PostgresError(
            "the drill found differences: this backup does not restore as it was",
            detail="; ".join([*differing, *asserted.failures]),
            hint="Make another backup, and look into the log of this drill.",
        )
    if asserted.failures and order.kind is not Kind.BESIDE:
        raise ask.refusal(asserted, order.kind)
    if asserted.unanswered and order.kind is not Kind.BESIDE:
        raise ask.no_answer(asserted, order.kind)


def _check_dump(run: RestoreRun, order: Order) -> list[Entry]:
    """The table of contents of a dump that is still what it was, byte for byte."""
    run.phase = "checking"
    run.rows = _rows_of(order)
    run.check(now_at_once=True)
    with storage().open(order.filename) as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size != order.size or sha256_of(file, on_block=lambda _: run.check()) != order.sha256:
            raise VerificationError(
                f"{order.filename} is not what it was when it was made",
                hint="Do not restore it; flask backup check tells which dumps are whole.",
            )
        return read_entries(file)


def _rows_of(order: Order) -> dict[str, int]:
    """The rows of each table, as pg_restore names it."""
    return {
        f"{each['schema']}.{each['name']}": each.get("rows") or 0
        for each in order.contents.get("tables", [])
    }


def _prove(
    order: Order,
    result: Result,
    seconds: float,
    evidence: dict[str, Any],
    level: Level = Level.RESTORED,
) -> None:
    with writing() as session:
        backup = session.get(DatabaseBackup, order.backup_id)
        if backup is not None:
            backup.proven = backup.proven or result is Result.PASSED
            proof = Proof(backup_id=order.backup_id, level=level, result=result)
            proof.milliseconds, proof.evidence = round(seconds * 1000), evidence
            session.add(proof)
    told = (order.filename, level, result.value)
    logger.info("proof made filename=%s level=%d result=%r", *told)
