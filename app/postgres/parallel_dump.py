"""Make a dump with several sessions at once, as one ordinary archive.

pg_dump runs in parallel only into a directory. Each table moves from there into the
archive as soon as it is complete.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from app.errors import DumpError
from app.postgres.assembly import Assembly, DamagedDirectory, finished_entry
from app.postgres.dump import Limits, PgDumpFailed, Request, StallGuard, Written, run_pg_dump
from app.postgres.locking import Lock, watched
from app.postgres.table_locks import sessions_that_can_lock
from app.programs import command

# The connections that are left: on the server, for the role, in the database. A limit
# of -1 is none.
_FREE = """
    SELECT current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int
           - COALESCE(current_setting('reserved_connections', true)::int, 0)
           - (SELECT COALESCE(sum(numbackends), 0) FROM pg_stat_database)::int,
           (SELECT NULLIF(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)
           - (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)::int,
           (SELECT NULLIF(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
           - (SELECT numbackends FROM pg_stat_database WHERE datname = current_database())
"""


@dataclass(frozen=True)
class Parts:
    """An empty private folder, and how many jobs fill it."""

    folder: Path
    jobs: int


class JobsFailed(DumpError):
    """pg_dump failed with several sessions; with one it may not."""


def affordable_jobs(lock: Lock, wanted: int) -> int:
    """How many of the wanted jobs a dump can have, at least one.

    Each takes a connection, and one more leads them: together at most half of those that
    are free. Each of them locks every table, as we do. Raises DumpError if the lock is lost.
    """
    if wanted == 1 or lock.is_pooled:
        return 1
    wanted = min(wanted, sessions_that_can_lock(lock) - 2)
    with watched("the free connections cannot be counted", lock.info):
        (free,) = lock.rows(_FREE)
    least: int = min(number for number in free if number is not None)
    return max(1, min(wanted, least // 2 - 1))


def dump_in_parallel(
    request: Request,
    target: Path,
    parts: Parts,
    *,
    limits: Limits,
    watch: command.Watch,
    sign_of_life: Callable[[int], object],
) -> None:
    """Dump as `dump` does, with several jobs.

    The request must lead to one session more than there are jobs, all with one snapshot.
    Raises JobsFailed where an ordinary dump of that may work; otherwise as `dump` does.
    """
    folder, jobs = parts.folder, str(parts.jobs)
    options: list[str | Path] = ["-F", "d", "-j", jobs, "-b", "--no-sync", "-f", folder]
    alive = StallGuard(Written(target, folder), limits.stall, sign_of_life).added_to(watch)
    with target.open("r+b", buffering=0) as archive:
        moving = _Moving(folder, archive, alive)
        try:
            run_pg_dump(
                request,
                options,
                limits,
                replace(alive, on_line=moving.on_line),
            )
            moving.finish()
        except (PgDumpFailed, DamagedDirectory) as error:
            raise JobsFailed(error.message, detail=error.detail, hint=error.hint) from error


class _Moving:
    """Moves tables into the archive as pg_dump's log names them."""

    def __init__(self, folder: Path, archive: BinaryIO, watch: command.Watch) -> None:
        self._folder, self._archive, self._watch = folder, archive, watch
        self._assembly: Assembly | None = None

    def on_line(self, line: str) -> None:
        if self._watch.on_line is not None:
            self._watch.on_line(line)
        if (entry := finished_entry(line)) is not None:
            self._begun().take(entry)

    def finish(self) -> None:
        self._begun().finish()

    def _begun(self) -> Assembly:
        if self._assembly is None:  # the contents are complete before the first rows
            on_tick = self._watch.on_tick or (lambda: None)
            self._assembly = Assembly(self._folder, self._archive, on_tick)
        return self._assembly
