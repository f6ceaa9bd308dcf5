"""Dump the database of a running backup, and count its rows beside."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.config import settings
from app.errors import PostgresError
from app.extensions import writing
from app.models import Database, DatabaseBackup
from app.postgres.census import Census
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.counting import Counting, counting
from app.postgres.dump import Limits, ObjectGone, Request, dump, dump_roles
from app.postgres.encodings import printable
from app.postgres.locking import Lock
from app.postgres.parallel_dump import JobsFailed, Parts, affordable_jobs, dump_in_parallel
from app.postgres.progress import PAGE, DumpProgress, Table, watched
from app.postgres.relay import alone
from app.postgres.snapshot import Snapshot, take_snapshot
from app.postgres.tools import Toolchain, choose_toolchain, find_toolchains
from app.programs.command import Line, Watch
from app.services.databases.configured import private_dir, storage
from app.services.databases.lookup import split_names
from app.services.jobs import claims
from app.services.jobs.run import Run
from app.services.jobs.session_names import backup_session
from app.storages import Staged

_BIG = 100 * 1024**2  # bytes of a database from which several jobs pay off
_FEW_SESSIONS = 2  # one leads, so only one would be left for tables
_MOST_JOBS = 4  # that nobody has asked for
_ATTEMPTS = 5  # objects that cannot be locked may be gone before pg_dump reads them


@dataclass(frozen=True)
class DumpTask:
    """The tools of a running backup."""

    run: Run
    lock: Lock
    toolchain: Toolchain
    compression: str
    on_line: Line
    without_rows_of: frozenset[tuple[str, str]]  # schema and name of tables
    is_counted: bool
    jobs: int  # sessions of pg_dump that copy tables at once

    @classmethod
    def of(cls, database: Database, run: Run, lock: Lock, on_line: Line, size: int) -> "DumpTask":
        """With the programs and options for this database of `size` bytes."""
        toolchain = choose_toolchain(find_toolchains(settings().pg_bin_dir), lock.server_version)
        compression = toolchain.compression(database.compression or settings().compression)
        left_out = frozenset(split_names(database.without_rows_of))
        is_counted = settings().count_rows and not database.skips_counting
        wanted = database.dump_jobs or settings().dump_jobs or _usual_jobs(size)
        jobs = affordable_jobs(lock, wanted)
        if jobs < wanted:
            run.log.add(f"{jobs} of {wanted} jobs: the server has room for no more")
        return cls(run, lock, toolchain, compression, on_line, left_out, is_counted, jobs)

    def request(
        self, info: Conninfo, environment: Mapping[str, str | None], snapshot: str | None
    ) -> Request:
        """What pg_dump has to dump, by way of `info`."""
        left_out = tuple(sorted(self.without_rows_of))
        return Request(self.toolchain, info, environment, snapshot, self.compression, left_out)

    def leaves_out(self, table: Mapping[str, Any]) -> bool:
        """Whether the rows of a table are left out."""
        return (table["schema"], table["name"]) in self.without_rows_of


def _usual_jobs(size: int) -> int:
    return min(os.cpu_count() or 1, _MOST_JOBS) if size >= _BIG else 1


def _record_facts(task: DumpTask, contents: Census, size: int) -> None:
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
        ],
        task.jobs,
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


def roles_of(task: DumpTask) -> str:
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


def dump_database(task: DumpTask, staged: Staged, size: int) -> tuple[Census, dict[int, int]]:
    """Dump; return the contents of the database, and the rows of its tables by oid."""
    for attempt in range(_ATTEMPTS - 1):
        try:
            return _dump_once(task, staged, size, with_views=attempt > 0)
        except ObjectGone as gone:
            task.run.log.add(f"once more, in a new snapshot: {gone.detail}")
    return _dump_once(task, staged, size, with_views=True)


def _dump_once(
    task: DumpTask, staged: Staged, size: int, *, with_views: bool
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


def _run_pg_dump(task: DumpTask, staged: Staged, snapshot: Snapshot, counts: Counting) -> None:
    """Run pg_dump; with one session where it fails with several."""
    run, name = task.run, backup_session(staged.name)
    with watched(task.lock.info, run.progress, name) as look:

        def on_tick() -> None:
            run.check()
            task.lock.check()
            snapshot.check()
            counts.check()
            look()

        if task.jobs > 1:
            try:
                if _run_in_parallel(task, staged, snapshot, on_tick):
                    return
                run.log.add("one job: no more sessions, or somebody waits to change a table")
            except JobsFailed as error:
                run.log.add(f"once more, with one job: {error.message}: {error.detail}")
                storage().empty(staged)
        _run_alone(task, staged, snapshot, on_tick)


def _run_in_parallel(
    task: DumpTask, staged: Staged, snapshot: Snapshot, on_tick: Callable[[], None]
) -> bool:
    """False where there are too few sessions for more than one job."""
    name = backup_session(staged.name)
    with (
        snapshot.lend_several(task.jobs + 1, application_name=name, on_wait=task.run.check) as (
            address,
            sessions,
        ),
        storage().parts_of(staged) as folder,
    ):
        if address is None or sessions <= _FEW_SESSIONS:
            return False
        dump_in_parallel(
            task.request(address, alone(), None),
            staged.path,
            Parts(folder, sessions - 1),
            limits=_limits(),
            watch=_watch(task, on_tick),
            sign_of_life=partial(_sign_of_life, task),
        )
    return True


def _run_alone(
    task: DumpTask, staged: Staged, snapshot: Snapshot, on_tick: Callable[[], None]
) -> None:
    info, name = task.lock.info, backup_session(staged.name)
    with (
        snapshot.lend() as lent,
        _environment(info, name, is_lent=lent is not None) as environment,
    ):
        dump(
            task.request(lent or info, environment, None if lent else snapshot.id),
            staged.path,
            limits=_limits(),
            watch=_watch(task, on_tick),
            sign_of_life=partial(_sign_of_life, task),
        )


def _limits() -> Limits:
    return Limits(settings().lock_timeout, settings().stall_timeout, settings().dump_timeout)


def _watch(task: DumpTask, on_tick: Callable[[], None]) -> Watch:
    on_start = partial(claims.note_process, task.run.job_id)
    return Watch(on_start=on_start, on_line=task.on_line, on_tick=on_tick)


def _sign_of_life(task: DumpTask, size: int) -> int:
    task.run.progress.wrote(size)
    return task.run.progress.moved


@contextmanager
def _environment(info: Conninfo, name: str, *, is_lent: bool) -> Iterator[Mapping[str, str | None]]:
    """The environment of pg_dump; a lent session needs no password."""
    if is_lent:
        yield alone()
        return
    with client_environment(info, private_dir()) as environment:
        yield environment | {"PGAPPNAME": name}
