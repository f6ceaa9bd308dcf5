"""Run one backup: lock, dump, check, publish, and complete the row last."""

import logging
from collections.abc import Callable

from app.config import settings
from app.errors import AppError, ConnectError, Interrupted
from app.extensions import db, writing
from app.models import DatabaseBackup
from app.postgres.census import Census
from app.postgres.locking import hold_lock
from app.postgres.poolers import refuse_shared_sessions
from app.postgres.table_locks import refuse_too_many_tables
from app.programs.command import Line
from app.services.backups.dumping import DumpTask, dump_database, roles_of
from app.services.backups.free_space import refuse_without_space
from app.services.backups.manifests import build_manifest
from app.services.backups.publication import end_sessions_of, record_success
from app.services.backups.read_back import ReadBack, prove_rows, read_back
from app.services.backups.take_in import take_in
from app.services.databases.configured import storage
from app.services.databases.connections import reached
from app.services.databases.lookup import database_of
from app.services.jobs.outcomes import record_failure
from app.services.jobs.run import Run
from app.services.jobs.session_names import backup_session
from app.storages import Staged

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
        if lock.is_pooled:
            refuse_shared_sessions(lock.info)
        refuse_too_many_tables(lock)
        size = lock.database_size()
        task = DumpTask.of(database, run, lock, on_line, size)
        refuse_without_space(database, size, task.compression)
        roles = roles_of(task)
        staged = storage().stage(filename)
        try:
            contents, rows = dump_database(task, staged, size)
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


def _publish(task: DumpTask, staged: Staged, contents: Census, read: ReadBack) -> None:
    """Publish the dump, if its lock and claim were held to the end."""
    task.run.phase = "publishing"
    task.lock.check(now=True)
    task.run.check(now_at_once=True)
    with writing() as session:
        backup = session.get_one(DatabaseBackup, task.run.job_id)
        backup.contents = contents
        manifest = build_manifest(backup, read.dump)
    storage().publish(staged, manifest)
