"""Backups that several sessions dump at once: one ordinary archive, and the same promises."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg2
import pytest

from app.config import settings
from app.errors import InvalidInput
from app.models import DatabaseBackup, Trigger
from app.postgres.archive import read_entries
from app.postgres.snapshot import Snapshot
from app.postgres.tools import Toolchain
from app.programs.command import Line
from app.services.backups import service as backups
from app.services.databases.lookup import default_database
from app.services.databases.service import Changes, edit_database
from app.services.proofs.records import list_proofs
from tests.conftest import Database, on_catalogues
from tests.postgres.conftest import pg_dump_process, wait_until
from tests.postgres.test_assembly import sql

pytestmark = [pytest.mark.usefixtures("context"), on_catalogues("sqlite")]

LARGE_OBJECTS = """
    SELECT lo_from_bytea(0, decode(repeat(md5(n::text), n), 'hex')) FROM generate_series(1, 30) n
"""


def made(jobs: int, on_line: Line | None = None) -> DatabaseBackup:
    edit_database(default_database().name, Changes(dump_jobs=jobs), by="ann")
    return backups.create_backup(trigger=Trigger.CLI, created_by="ann", on_line=on_line)


def path_of(backup: DatabaseBackup) -> Path:
    return settings().backup_dir / backup.filename


def as_sql(chain: Toolchain, path: Path) -> list[bytes]:
    return sorted(sql(chain, path).splitlines())


def partials() -> list[Path]:
    return list((settings().backup_dir / ".partial").iterdir())


def test_several_jobs_make_the_same_archive(shop: Database, own_toolchain: Toolchain):
    shop.run(LARGE_OBJECTS)
    alone, together = made(1), made(2)
    assert " -F c -b " in alone.log
    assert " -F d -j 2 -b " in together.log
    assert as_sql(own_toolchain, path_of(alone)) == as_sql(own_toolchain, path_of(together))
    proofs = [list_proofs(backup.id)[0].evidence for backup in (alone, together)]
    assert proofs[0] == proofs[1]
    assert (proofs[1]["uncounted"], proofs[1]["differences"]) == ([], [])
    assert partials() == []


def test_rows_that_are_left_out_are_left_out_by_all_jobs(shop: Database):
    edit_database(default_database().name, Changes(without_rows_of=("public.orders",)), by="ann")
    backup = made(2)
    assert " -j 2 " in backup.log
    with path_of(backup).open("rb") as archive:
        with_rows = {entry.name for entry in read_entries(archive) if entry.kind == "TABLE DATA"}
    assert with_rows == {"customers"}


@contextmanager
def queued(shop: Database) -> Iterator[Callable[[], None]]:
    """Yields a call after which somebody waits to lock a table exclusively."""
    with closing(psycopg2.connect(shop.url)) as connection, connection.cursor() as cursor:
        threads = []

        def wait_for_it() -> None:
            cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            connection.rollback()

        def queue() -> None:
            threads.append(Thread(target=wait_for_it))
            threads[0].start()
            waiting = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = {pid}"
            wait_until(lambda: shop.run(waiting)[0][0], "somebody waits for the table")

        pid = connection.info.backend_pid
        yield queue
        threads[0].join()


def at_line(part: str, act: Callable[[], object]) -> Line:
    """Act while pg_dump stands still at the first line with this part."""
    parts = [part]

    def on_line(line: str) -> None:
        if parts and part in line:
            parts.clear()
            stopped = pg_dump_process()
            assert stopped is not None
            stopped.suspend()
            act()
            stopped.resume()

    return on_line


def test_somebody_who_waits_for_a_table_is_no_hindrance(shop: Database, own_toolchain: Toolchain):
    """All sessions of pg_dump have their locks from the first moment."""
    alone = made(1)
    with queued(shop) as queue:
        together = made(2, at_line("pg_dump: reading column info", queue))
    assert " -j 2 " in together.log
    assert " -F c " not in together.log
    assert as_sql(own_toolchain, path_of(together)) == as_sql(own_toolchain, path_of(alone))


def test_somebody_who_waits_already_leaves_one_job(shop: Database, monkeypatch: pytest.MonkeyPatch):
    real = Snapshot.lend_several
    with queued(shop) as queue:

        def lend_several(*values: Any, **more: Any) -> Any:
            queue()
            return real(*values, **more)

        monkeypatch.setattr(Snapshot, "lend_several", lend_several)
        backup = made(2)
    assert "one job: no more sessions" in backup.log
    assert " -j 2 " not in backup.log
    assert backup.is_completed


END_A_WORKER = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE relation = 'orders'::regclass ORDER BY backend_start DESC LIMIT 1
"""


def test_a_session_that_is_ended_leaves_one_job(shop: Database, own_toolchain: Toolchain):
    alone = made(1)
    backup = made(2, at_line("pg_dump: reading column info", lambda: shop.run(END_A_WORKER)))
    assert "once more, with one job: pg_dump failed" in backup.log
    assert as_sql(own_toolchain, path_of(backup)) == as_sql(own_toolchain, path_of(alone))
    assert partials() == []


def test_few_connections_leave_few_jobs(shop: Database):
    shop.run(f"ALTER DATABASE {shop.name} CONNECTION LIMIT 5")
    backup = made(4)
    assert backup.is_completed
    assert "1 of 4 jobs: the server has room for no more" in backup.log
    assert " -F c " in backup.log


def test_a_small_database_has_one_job_unless_more_are_wanted():
    assert " -F c " in made(0).log


def test_too_many_jobs_are_refused():
    with pytest.raises(InvalidInput, match="1 to 64 jobs"):
        made(65)
