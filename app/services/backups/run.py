"""The life of one backup: lock, dump, check, publish, and the row last."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from app.config import settings
from app.errors import AppError, ConfigurationError, ConnectError, Interrupted, PostgresError
from app.extensions import db, writing
from app.models import DatabaseBackup
from app.postgres.census import Census
from app.postgres.command import Line
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.counting import Counting, counting
from app.postgres.dump import Limits, ObjectGone, dump, dump_roles
from app.postgres.encodings import printable
from app.postgres.locking import Lock, hold_lock
from app.postgres.poolers import refuse_shared_sessions
from app.postgres.progress import PAGE, DumpProgress, Table, watched
from app.postgres.relay import alone
from app.postgres.snapshot import Snapshot, take_snapshot
from app.postgres.table_locks import refuse_too_many_tables
from app.postgres.tools import Toolchain, choose_toolchain, find_toolchains
from app.services.backups.free_space import refuse_without_space
from app.services.backups.manifests import build_manifest
from app.services.backups.publication import end_sessions_of, record_success
from app.services.backups.read_back import Reading, prove_rows, read_back
from app.services.backups.take_in import take_in
from app.services.databases.configured import (
    DatabaseName,
    configured_database,
    database_name,
    private_dir,
    storage,
)
from app.services.jobs import claims
from app.services.jobs.outcomes import record_failure
from app.services.jobs.run import Run
from app.services.jobs.session_names import backup_session
from app.storages import Staged

_ATTEMPTS = 5  # what cannot be locked (views, functions, …) may be gone before pg_dump reads it

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
    run.check()
    with hold_lock(
        configured_database(),
        application_name=backup_session(filename),
        patience=settings().stall_timeout,
        on_wait=run.check,
    ) as lock:
        toolchain = choose_toolchain(find_toolchains(settings().pg_bin_dir), lock.server_version)
        task = _Task(run, lock, toolchain, toolchain.compression(settings().compression), heard)
        if lock.is_pooled:
            refuse_shared_sessions(lock.info)
        refuse_too_many_tables(lock)
        size = lock.database_size()
        refuse_without_space(wanted, size, task.compression)
        roles = _roles(task)
        staged = storage().stage(filename)
        try:
            contents, rows = _dump(task, staged, size)
            run.phase = "checking"

            def tick() -> None:
                run.check()
                lock.check()

            read = read_back(run, staged, toolchain, contents=size, on_tick=tick)
            _publish(task, staged, prove_rows(contents | {"roles": roles}, rows, read), read)
        finally:
            storage().discard(staged)


@dataclass(frozen=True)
class _Task:
    """What a backup works with."""

    run: Run
    lock: Lock
    toolchain: Toolchain
    compression: str
    heard: Line


def _refuse_another_database(wanted: DatabaseName) -> None:
    """DATABASE_URL may have been changed since the backup was asked for."""
    if wanted != database_name():
        raise ConfigurationError(
            f'this worker is not set up for database "{wanted.database}" on {wanted.server}',
            detail=f'Its DATABASE_URL names "{database_name().database}" on'
            f" {database_name().server}.",
            hint="Give web and worker the same DATABASE_URL, and start the backup again.",
        )


def _record_facts(task: _Task, contents: Census, size: int) -> None:
    """Write down what is dumped, and by what."""
    task.run.progress = DumpProgress(
        [
            Table(
                each["oid"],
                printable(f"{each['schema']}.{each['name']}"),
                each["pages"] * PAGE,
                each["rows"],
            )
            for each in contents["tables"]
        ]
    )
    tables = [{"schema": each["schema"], "name": each["name"]} for each in contents["tables"]]
    with writing() as session:
        backup = session.get_one(DatabaseBackup, task.run.job_id)
        backup.server_version = str(task.lock.server_version)
        backup.tool_version = str(task.toolchain.version)
        backup.compression = task.compression
        backup.database_size = size
        backup.contents = contents | {"tables": tables}


def _roles(task: _Task) -> str:
    """The server's roles as SQL, kept beside the dump; empty where they cannot be had."""
    info, run = task.lock.info, task.run
    try:
        with client_environment(info, private_dir()) as environment:
            return dump_roles(
                task.toolchain,
                info,
                environment=environment | {"PGAPPNAME": f"backstop roles {run.job_id}"},
                timeout=settings().stall_timeout,
                on_tick=run.check,
            )
    except PostgresError as error:
        run.log.add(f"roles are not saved: {error.message} {error.detail}")
        return ""


def _dump(task: _Task, staged: Staged, size: int) -> tuple[Census, dict[int, int]]:
    """Returns what the database holds, and the rows of its tables by oid."""
    for attempt in range(_ATTEMPTS - 1):
        try:
            return _dump_once(task, staged, size, with_views=attempt > 0)
        except ObjectGone as gone:
            task.run.log.add(f"once more, in a new snapshot: {gone.detail}")
    return _dump_once(task, staged, size, with_views=True)


def _dump_once(
    task: _Task, staged: Staged, size: int, *, with_views: bool
) -> tuple[Census, dict[int, int]]:
    """Lock, then dump; what holds up others is let go as soon as pg_dump has ended."""
    run, name = task.run, backup_session(staged.name)
    run.phase = "dumping"
    run.log.add("locking the tables")
    with take_snapshot(
        task.lock,
        application_name=name,
        lock_timeout=settings().lock_timeout,
        with_views=with_views,
        on_wait=run.check,
    ) as snapshot:
        contents = snapshot.contents()
        _record_facts(task, contents, size)
        tables = contents["tables"] if settings().count_rows else []
        with counting(snapshot, tables, f"{name} rows") as counted:
            _run_pg_dump(task, staged, snapshot, counted)

            def tick() -> None:
                run.check()
                task.lock.check()

            counted.finish(tick)
    return contents | counted.census, counted.rows


def _run_pg_dump(task: _Task, staged: Staged, snapshot: Snapshot, counted: Counting) -> None:
    run, info, name = task.run, task.lock.info, backup_session(staged.name)
    limits = Limits(settings().lock_timeout, settings().stall_timeout, settings().dump_timeout)
    with (
        watched(info, run.progress, name) as look,
        snapshot.lend() as lent,
        _environment(info, name, is_lent=lent is not None) as environment,
    ):

        def tick() -> None:
            run.progress.wrote(storage().staged_size(staged.name))
            run.check()
            task.lock.check()
            snapshot.check()
            counted.check()
            look()

        dump(
            task.toolchain,
            lent or info,
            staged.path,
            snapshot=None if lent else snapshot.id,
            compression=task.compression,
            limits=limits,
            environment=environment,
            on_line=task.heard,
            on_tick=tick,
            on_start=partial(claims.note_process, run.job_id),
            moved=lambda: run.progress.moved,
        )


@contextmanager
def _environment(info: Conninfo, name: str, *, is_lent: bool) -> Iterator[Mapping[str, str | None]]:
    """What pg_dump signs in with; a session that is lent needs nothing."""
    if is_lent:
        yield alone()
        return
    with client_environment(info, private_dir()) as environment:
        yield environment | {"PGAPPNAME": name}


def _publish(task: _Task, staged: Staged, contents: Census, read: Reading) -> None:
    """Only a dump whose lock and claim were held to the end gets its final name."""
    task.run.phase = "publishing"
    task.lock.check(now=True)
    task.run.check(now_at_once=True)
    with writing() as session:
        backup = session.get_one(DatabaseBackup, task.run.job_id)
        backup.contents = contents
        manifest = build_manifest(backup, read.dump)
    storage().publish(staged, manifest)
