"""Run one backup: lock, dump, check, publish, and complete the row last."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.config import settings
from app.errors import AppError, ConnectError, Interrupted, PostgresError
from app.extensions import db, writing
from app.models import Database, DatabaseBackup
from app.postgres.census import Census
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.counting import Counting, counting
from app.postgres.dump import Limits, ObjectGone, Request, dump, dump_roles
from app.postgres.encodings import printable
from app.postgres.locking import Lock, hold_lock
from app.postgres.poolers import refuse_shared_sessions
from app.postgres.progress import PAGE, DumpProgress, Table, watched
from app.postgres.relay import alone
from app.postgres.snapshot import Snapshot, take_snapshot
from app.postgres.table_locks import refuse_too_many_tables
from app.postgres.tools import Toolchain, choose_toolchain, find_toolchains
from app.programs.command import Line, Watch
from app.services.backups.free_space import refuse_without_space
from app.services.backups.manifests import build_manifest
from app.services.backups.publication import end_sessions_of, record_success
from app.services.backups.read_back import ReadBack, prove_rows, read_back
from app.services.backups.take_in import take_in
from app.services.databases.configured import private_dir, storage
from app.services.databases.connections import reached
from app.services.databases.lookup import database_of, split_names
from app.services.jobs import claims
from app.services.jobs.outcomes import record_failure
from app.services.jobs.run import Run
from app.services.jobs.session_names import backup_session
from app.storages import Staged

_ATTEMPTS = 5  # objects that cannot be locked may be gone before pg_dump reads them

logger = logging.getLogger(__name__)


def run_claimed(
    backup_id: str, on_line: Line | None = None, on_news: Callable[[], None] = lambda: None
) -> None:
    """Run a backup that this process has claimed, to COMPLETED or FAILED.

    `on_line` gets each line of pg_dump; `on_news` is called after each update of the
    progress, at most once a second. The row records errors of the backup, and also what
    ends this process, which is raised again.
    """
    run = Run(backup_id, limit=settings().dump_timeout, on_news=on_news)

    def on_each_line(line: str) -> None:
        run.log.add(line)
        run.progress.heard(line)
        if on_line is not None:
            on_line(line)

    try:
        _make(run, on_each_line)
    except AppError as error:
        record_failure(backup_id, error, run.log.text())
        if not isinstance(error, ConnectError):
            end_sessions_of(backup_id)
    except BaseException:
        record_failure(
            backup_id,
            Interrupted(
                "the backup was interrupted",
                detail="Its process was ended, or failed with an error that is in its log.",
                hint="Start the backup again.",
            ),
            run.log.text(),
        )
        raise
    else:
        record_success(backup_id, run.log.text())


def _make(run: Run, on_line: Line) -> None:
    backup = db.session.get_one(DatabaseBackup, run.job_id)
    filename, is_foreign, database_id = backup.filename, backup.foreign, backup.database_id
    db.session.commit()  # leave no transaction of the catalogue open
    if is_foreign:
        take_in(run, filename)
        return
    database = database_of(database_id)
    run.check()
    with (
        reached(database, run.check) as info,
        hold_lock(
            info,
            application_name=backup_session(filename),
            patience=settings().stall_timeout,
            on_wait=run.check,
        ) as lock,
    ):
        task = _Task.of(database, run, lock, on_line)
        if lock.is_pooled:
            refuse_shared_sessions(lock.info)
        refuse_too_many_tables(lock)
        size = lock.database_size()
        refuse_without_space(database, size, task.compression)
        roles = _roles(task)
        staged = storage().stage(filename)
        try:
            contents, rows = _dump(task, staged, size)
            run.phase = "checking"

            def tick() -> None:
                run.check()
                lock.check()

            read = read_back(run, staged, task.toolchain, contents=size, on_tick=tick)
            contents |= {"roles": roles}
            proven = prove_rows(contents, rows, read, without_rows_of=task.without_rows_of)
            _publish(task, staged, proven, read)
        finally:
            storage().discard(staged)


@dataclass(frozen=True)
class _Task:
    """The tools of a running backup."""

    run: Run
    lock: Lock
    toolchain: Toolchain
    compression: str
    on_line: Line
    without_rows_of: frozenset[tuple[str, str]]  # schema and name of tables
    is_counted: bool

    @classmethod
    def of(cls, database: Database, run: Run, lock: Lock, on_line: Line) -> "_Task":
        """With the programs and options for this database."""
        toolchain = choose_toolchain(find_toolchains(settings().pg_bin_dir), lock.server_version)
        compression = toolchain.compression(database.compression or settings().compression)
        left_out = frozenset(split_names(database.without_rows_of))
        is_counted = settings().count_rows and not database.skips_counting
        return cls(run, lock, toolchain, compression, on_line, left_out, is_counted)

    def leaves_out(self, table: Mapping[str, Any]) -> bool:
        """Whether the rows of a table are left out."""
        return (table["schema"], table["name"]) in self.without_rows_of


def _record_facts(task: _Task, contents: Census, size: int) -> None:
    """Store the facts of the dump in its row."""
    task.run.progress = DumpProgress(
        [
            Table(
                table["oid"],
                printable(f"{table['schema']}.{table['name']}"),
                table["pages"] * PAGE,
                table["rows"],
            )
            for table in contents["tables"]
        ]
    )
    tables = [{"schema": table["schema"], "name": table["name"]} for table in contents["tables"]]
    with writing() as session:
        backup = session.get_one(DatabaseBackup, task.run.job_id)
        backup.server_version = str(task.lock.server_version)
        backup.tool_version = str(task.toolchain.version)
        backup.compression = task.compression
        backup.database_size = size
        backup.contents = contents | {"tables": tables}
        backup.is_partial = bool(task.without_rows_of)


def _roles(task: _Task) -> str:
    """The roles of the server as SQL; empty if they cannot be read."""
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
    """Dump; return the contents of the database, and the rows of its tables by oid."""
    for attempt in range(_ATTEMPTS - 1):
        try:
            return _dump_once(task, staged, size, with_views=attempt > 0)
        except ObjectGone as gone:
            task.run.log.add(f"once more, in a new snapshot: {gone.detail}")
    return _dump_once(task, staged, size, with_views=True)


def _dump_once(
    task: _Task, staged: Staged, size: int, *, with_views: bool
) -> tuple[Census, dict[int, int]]:
    """Lock and dump; release the locks as soon as pg_dump has ended."""
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
        counted = [table for table in contents["tables"] if not task.leaves_out(table)]
        tables = counted if task.is_counted else []
        with counting(snapshot, tables, f"{name} rows") as counts:
            _run_pg_dump(task, staged, snapshot, counts)

            def tick() -> None:
                run.check()
                task.lock.check()

            counts.finish(tick)
    return contents | counts.census, counts.rows


def _run_pg_dump(task: _Task, staged: Staged, snapshot: Snapshot, counts: Counting) -> None:
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
            counts.check()
            look()

        dump(
            task.toolchain,
            Request(
                lent or info,
                environment,
                None if lent else snapshot.id,
                task.compression,
                tuple(sorted(task.without_rows_of)),
            ),
            staged.path,
            limits=limits,
            watch=Watch(
                on_start=partial(claims.note_process, run.job_id),
                on_line=task.on_line,
                on_tick=tick,
            ),
            sign_of_life=lambda: run.progress.moved,
        )


@contextmanager
def _environment(info: Conninfo, name: str, *, is_lent: bool) -> Iterator[Mapping[str, str | None]]:
    """The environment of pg_dump; a lent session needs no password."""
    if is_lent:
        yield alone()
        return
    with client_environment(info, private_dir()) as environment:
        yield environment | {"PGAPPNAME": name}


def _publish(task: _Task, staged: Staged, contents: Census, read: ReadBack) -> None:
    """Publish the dump, if its lock and claim were held to the end."""
    task.run.phase = "publishing"
    task.lock.check(now=True)
    task.run.check(now_at_once=True)
    with writing() as session:
        backup = session.get_one(DatabaseBackup, task.run.job_id)
        backup.contents = contents
        manifest = build_manifest(backup, read.dump)
    storage().publish(staged, manifest)
