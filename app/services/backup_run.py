"""The life of one backup: lock, dump, check, publish, and the row last."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from app.config import settings
from app.errors import AppError, ConfigurationError, ConnectError, Interrupted, PostgresError
from app.extensions import db, writing
from app.models import DatabaseBackup
from app.postgres.command import Line
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.dump import Limits, dump, dump_roles
from app.postgres.progress import PAGE, DumpProgress, Table, watched
from app.postgres.snapshot import Snapshot, hold_snapshot
from app.postgres.tools import Toolchain, choose_toolchain, find_toolchains
from app.services import claims
from app.services.databases import (
    DatabaseName,
    configured_database,
    database_name,
    private_dir,
    storage,
)
from app.services.foreign_run import take_in
from app.services.manifests import build_manifest
from app.services.outcomes import end_sessions_of, record_failure, record_success, session_name
from app.services.proofs import prove_rows
from app.services.reading import Reading, read_back
from app.services.runs import Run
from app.services.space import refuse_without_space
from app.storages import Staged

_TABLES_LOCKED = "pg_dump: reading user-defined functions"  # what it does next

logger = logging.getLogger(__name__)


def run_claimed(
    backup_id: str, on_line: Line | None = None, on_news: Callable[[], None] = lambda: None
) -> None:
    """Run a backup that this process has claimed, to COMPLETED or FAILED.

    `on_line` gets each line of pg_dump; `on_news` is called when the row tells
    more of the progress, at most once a second. Errors of the backup end up on
    its row; what ends this process is recorded there too and raised again.
    """
    run = Run(backup_id, limit=settings().dump_timeout, on_news=on_news)

    def heard(line: str) -> None:
        run.log.add(line)
        run.progress.heard(line)
        if on_line is not None:
            on_line(line)

    try:
        _make(run, heard)
    except AppError as error:
        record_failure(backup_id, error, run.log.text())
        if not isinstance(error, ConnectError):
            end_sessions_of(backup_id)
    except BaseException:
        record_failure(
            backup_id,
            Interrupted(
                "the backup was interrupted",
                detail="Its process was ended, or met a defect that its log tells.",
                hint="Start the backup again.",
            ),
            run.log.text(),
        )
        raise
    else:
        record_success(backup_id, run.log.text())


def _make(run: Run, heard: Line) -> None:
    backup = db.session.get_one(DatabaseBackup, run.job_id)
    filename, wanted = backup.filename, DatabaseName(backup.server, backup.database)
    is_foreign = backup.foreign
    db.session.commit()  # no transaction of the catalogue stays open meanwhile
    if is_foreign:
        take_in(run, filename)
        return
    _refuse_another_database(wanted)
    info = configured_database()
    run.check()
    name = session_name(filename)
    with hold_snapshot(
        info, application_name=name, patience=settings().stall_timeout, on_wait=run.check
    ) as snapshot:
        toolchain = choose_toolchain(
            find_toolchains(settings().pg_bin_dir), snapshot.server_version
        )
        compression = toolchain.compression(settings().compression)
        size, contents = _record_facts(run, snapshot, toolchain, compression)
        refuse_without_space(wanted, size, compression)
        contents["roles"] = _roles(run, info, toolchain, name)
        snapshot.count(contents["tables"])
        staged = storage().stage(filename)
        try:
            _dump(
                run,
                staged,
                snapshot,
                info=info,
                toolchain=toolchain,
                compression=compression,
                heard=heard,
            )
            snapshot.stop_counting()
            run.phase = "checking"

            def tick() -> None:
                run.check()
                snapshot.check()

            read = read_back(run, staged, toolchain, contents=size, on_tick=tick)
            _publish(run, staged, snapshot, contents, read)
        finally:
            storage().discard(staged)


def _refuse_another_database(wanted: DatabaseName) -> None:
    """DATABASE_URL may have been changed since the backup was asked for."""
    if wanted != database_name():
        raise ConfigurationError(
            f'this worker is not set up for database "{wanted.database}" on {wanted.server}',
            detail=f'Its DATABASE_URL names "{database_name().database}" on'
            f" {database_name().server}.",
            hint="Give web and worker the same DATABASE_URL, and start the backup again.",
        )


def _record_facts(
    run: Run, snapshot: Snapshot, toolchain: Toolchain, compression: str
) -> tuple[int, dict[str, Any]]:
    """Write down what is dumped, and by what.

    Returns the size of the database in bytes, and what it holds.
    """
    size, contents = snapshot.database_size(), snapshot.contents() | snapshot.census()
    run.progress = DumpProgress(
        [
            Table(
                each["oid"], f"{each['schema']}.{each['name']}", each["pages"] * PAGE, each["rows"]
            )
            for each in contents["tables"]
        ]
    )
    tables = [{"schema": each["schema"], "name": each["name"]} for each in contents["tables"]]
    with writing() as session:
        backup = session.get_one(DatabaseBackup, run.job_id)
        backup.server_version = str(snapshot.server_version)
        backup.tool_version = str(toolchain.version)
        backup.compression = compression
        backup.database_size = size
        backup.contents = contents | {"tables": tables}
    return size, contents


def _roles(run: Run, info: Conninfo, toolchain: Toolchain, name: str) -> str:
    """The server's roles as SQL, kept beside the dump; empty where they cannot be had."""
    try:
        with client_environment(info, private_dir()) as environment:
            return dump_roles(
                toolchain,
                info,
                environment=environment | {"PGAPPNAME": name},
                timeout=settings().stall_timeout,
                on_tick=run.check,
            )
    except PostgresError as error:
        run.log.add(f"roles are not saved: {error.message} {error.detail}")
        return ""


def _dump(
    run: Run,
    staged: Staged,
    snapshot: Snapshot,
    *,
    info: Conninfo,
    toolchain: Toolchain,
    compression: str,
    heard: Line,
) -> None:
    name = session_name(staged.name)
    limits = Limits(settings().lock_timeout, settings().stall_timeout, settings().dump_timeout)
    with (
        client_environment(info, private_dir()) as environment,
        watched(info, run.progress, name) as look,
    ):

        def tick() -> None:
            run.progress.wrote(storage().staged_size(staged.name))
            run.check()
            snapshot.check()
            look()

        def said(line: str) -> None:
            if line == _TABLES_LOCKED:
                snapshot.begin_counting()
            heard(line)

        run.phase = "dumping"
        dump(
            toolchain,
            info,
            staged.path,
            snapshot=snapshot.id,
            compression=compression,
            limits=limits,
            environment=environment | {"PGAPPNAME": name},
            on_line=said,
            on_tick=tick,
            on_start=partial(claims.note_process, run.job_id),
            moved=lambda: run.progress.moved,
        )


def _publish(
    run: Run, staged: Staged, snapshot: Snapshot, contents: dict[str, Any], read: Reading
) -> None:
    """Only a dump whose lock and claim were held to the end gets its final name."""
    run.phase = "publishing"
    snapshot.check(now=True)
    run.check(now_at_once=True)
    counted = prove_rows(contents, snapshot.rows, read.entries, read.rows, read.seconds)
    with writing() as session:
        backup = session.get_one(DatabaseBackup, run.job_id)
        backup.contents = counted
        manifest = build_manifest(backup, read.dump)
    storage().publish(staged, manifest)
