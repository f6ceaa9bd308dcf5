"""How long pages and figures take with many backups in the catalogue.

    python bench/catalogue.py [BACKUPS [DATABASES]]

Fills a catalogue with so many backups (100,000 by default) of so many databases
(1,000 by default), with logs, contents, proofs and drills, and with 1,000
schedules of one of them, once on SQLite and once on PostgreSQL. Prints for each page,
for a turn of the scheduler and for a retention plan the best and the median of many
answers, what the panel itself worked for the best (on SQLite that is all), and
how many queries it took. On a machine that is busy only the work says much.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
from cuid2 import create_id
from flask import Flask
from sqlalchemy import Engine, delete, event, insert, select, text, update

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app import create_app
from app.config import settings
from app.extensions import db
from app.models import (
    DatabaseBackup,
    Firing,
    Level,
    Outcome,
    Proof,
    Result,
    Schedule,
    Status,
    Task,
    Trigger,
)
from app.models.backup import filename_of
from app.models.types import now
from app.postgres.embedded import EmbeddedServer
from app.services.access import admins
from app.services.catalogue.state import prepare_catalogue
from app.services.databases.lookup import default_database
from app.services.databases.service import add_database
from app.services.jobs import workers
from app.services.retention import prune
from app.services.retention.rules import Policy
from app.services.schedules import turn
from tests.conftest import as_catalogue, settings_in, signed_in, url_of

ROUNDS = 21
SCHEDULES = 1_000
DUE = 20
POLICY = Policy(keep_daily=7, keep_weekly=5, keep_monthly=12, keep_yearly=10)
TOKEN = "only for this measurement"  # noqa: S105 - opens nothing else
CHUNK = 2_000
SERVER = "db.example.org:5432"
LOG = "\n".join(f'pg_dump: dumping contents of table "public.table_{n}"' for n in range(40))
CONTENTS = {
    "tables": [{"schema": "public", "name": f"table_{n}", "rows": n * 1000} for n in range(25)]
}


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    databases = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000  # noqa: PLR2004
    with tempfile.TemporaryDirectory(prefix="backstop-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = EmbeddedServer(folder / "server")
        with server.used():
            url = url_of(server.conninfo(), "postgres")
            with closing(psycopg2.connect(url)) as connection:
                connection.autocommit = True
                connection.cursor().execute("CREATE DATABASE catalogue")
            home = folder / "panel"
            home.mkdir()
            as_postgresql = as_catalogue(url_of(server.conninfo(), "catalogue"))
            for kind, changes in (("SQLite", {}), ("PostgreSQL", {"catalogue_url": as_postgresql})):
                url = f"postgresql://u:p@{SERVER}/shop_0"
                app = create_app(settings_in(home, url, metrics_token=TOKEN, **changes))
                with app.app_context():
                    prepare_catalogue()
                    admins.create_first_admin()
                    ids = add_databases(databases)
                    fill_schedules(ids[0])
                    fill(number, ids)
                    workers.beat()
                print(f"\n{kind}: {number:,} backups of {databases:,} databases")
                measure(app)


# Fill


def add_databases(number: int) -> list[str]:
    """The default one, shop_0, and so many others; their ids."""
    others = (
        add_database(f"shop_{n}", f"postgresql://u:p@{SERVER}/shop_{n}", by="ann")
        for n in range(1, number)
    )
    return [default_database().id, *(database.id for database in others)]


def fill(number: int, databases: list[str]) -> None:
    chance = random.Random(5)  # noqa: S311 - the same rows on both catalogues
    settings().backup_dir.mkdir(exist_ok=True)
    with db.engine.begin() as connection:
        for start in range(0, number, CHUNK):
            rows = [backup(n, number, databases, chance) for n in range(start, start + CHUNK)]
            connection.execute(insert(DatabaseBackup), rows)
            connection.execute(insert(Proof), list(proofs(rows, len(databases), start)))
            for each in rows:  # a plan looks whether they are there
                if each["database"] == "shop_0":
                    (settings().backup_dir / each["filename"]).touch()
    with db.engine.connect() as plain:
        plain.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
        if db.engine.dialect.name == "postgresql":  # as autovacuum does some minutes later
            plain.execute(text("VACUUM ANALYZE"))


def fill_schedules(database_id: str) -> None:
    """So many that are due in half a year, with what became of their last 90 times."""
    at = now()
    rows = [
        {
            "id": create_id(),
            "database_id": database_id,
            "name": f"schedule {n}",
            "task": Task.BACKUP,
            "cron": "0 3 1 6 *",
            "timezone": "Europe/Berlin",
            "created_by": "ann",
            "next_due_at": at + timedelta(days=180),
        }
        for n in range(SCHEDULES)
    ]
    with db.engine.begin() as connection:
        connection.execute(insert(Schedule), rows)
        for row in rows:
            times = [at - timedelta(days=day, hours=1) for day in range(90)]
            known = {"schedule_id": row["id"], "outcome": Outcome.COMPLETED, "attempts": 1}
            each = [{"id": create_id(), "due_at": time} | known for time in times]
            connection.execute(insert(Firing), each)


def backup(n: int, number: int, databases: list[str], chance: random.Random) -> dict[str, Any]:
    moment = now() - timedelta(minutes=3 * (number - n))
    status = Status.FAILED if chance.random() < 0.02 else Status.COMPLETED  # noqa: PLR2004
    return {
        "id": create_id(),
        "filename": filename_of(moment),
        "created_at": moment,
        "started_at": moment,
        "finished_at": moment + timedelta(seconds=chance.randrange(5, 500)),
        "database_id": databases[n % len(databases)],
        "server": SERVER,
        "database": f"shop_{n % len(databases)}",
        "status": status,
        "trigger": chance.choice([Trigger.SCHEDULE] * 8 + [Trigger.API, Trigger.ADMIN]),
        "created_by": "nightly",
        "size": chance.randrange(10**6, 10**10) if status is Status.COMPLETED else 0,
        "notes": f"night {n}",
        "sha256": "0" * 64,
        "proven": status is Status.COMPLETED,
        "error_message": "connection refused" if status is Status.FAILED else "",
        "log": LOG,
        "contents": CONTENTS,
    }


def proofs(rows: list[dict[str, Any]], databases: int, start: int) -> Iterator[dict[str, Any]]:
    """One with each dump, and a drill of each tenth backup of a database."""
    for n, row in enumerate(rows, start):
        if row["status"] is Status.COMPLETED:
            drilled = n // databases % 10 == 9  # noqa: PLR2004
            for level in [Level.READ] + [Level.RESTORED] * drilled:
                yield {
                    "id": create_id(),
                    "backup_id": row["id"],
                    "level": int(level),
                    "result": Result.PASSED,
                    "proved_at": row["finished_at"],
                    "milliseconds": 1000,
                    "evidence": {"tables": 25, "rows": 300_000, "differences": []},
                }


# Measure


def measure(app: Flask) -> None:
    admin = signed_in(app)
    older = json.loads(admin.get("/api/admin/backup").text)["nextBefore"]
    for path in (
        "/admin/",
        "/admin/backup",
        f"/admin/backup?before={older}",
        "/admin/backup?status=FAILED",
        "/admin/backup?status=PENDING",
        "/admin/backup?proof=restored",
        "/admin/backup?proof=not",
        "/admin/backup?proof=failed",
        "/admin/backup?copy=missing",
        "/admin/backup?pinned=yes",
        "/admin/backup?trigger=cli",
        "/admin/backup?sort=oldest",
        "/admin/backup?sort=largest",
        "/admin/backup?q=shop_999",
        "/admin/backup?q=nowhere",
        "/api/admin/backup",
        "/api/admin/backup?limit=200",
        "/api/admin/backup?status=PENDING",
    ):
        show(path, lambda path=path: admin.get(path))
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    show("/metrics", lambda: app.test_client().get("/metrics", headers=bearer))
    with app.app_context():
        show("a retention plan", lambda: prune.preview(policy=POLICY, limit=50))
        show(f"a turn with {SCHEDULES:,} schedules, none due", turn.turn)
        show(f"a turn with {DUE} of them due", turn.turn, make_due)


def make_due() -> None:
    """As before the last turn, and some schedules are due; one of them may run at a time."""
    since = now() - timedelta(minutes=30)
    due = select(Schedule.id).order_by(Schedule.name).limit(DUE)
    with db.engine.begin() as connection:
        connection.execute(delete(Firing).where(Firing.due_at > since))
        connection.execute(delete(DatabaseBackup).filter_by(status=Status.PENDING))
        ids = list(connection.scalars(due))
        connection.execute(
            update(Schedule)
            .where(Schedule.id.in_(ids))
            .values(cron="* * * * *", next_due_at=now().replace(second=0, microsecond=0))
        )


def show(name: str, ask: Callable[[], Any], prepare: Callable[[], None] = lambda: None) -> None:
    """Print how long it takes; the first answer warms up."""
    prepare()
    ask()
    took, worked = [], []
    for _ in range(ROUNDS):
        prepare()
        began, before = time.perf_counter(), time.process_time()
        ask()
        took.append((time.perf_counter() - began) * 1000)
        worked.append((time.process_time() - before) * 1000)
    prepare()
    with counting() as queries:
        ask()
    told = f"best {min(took):6.1f} ms, median {statistics.median(took):6.1f} ms"
    told += f", {min(worked):5.1f} ms of processor"
    print(f"  {name:45.45} {told}, {len(queries)} queries")


@contextmanager
def counting() -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


if __name__ == "__main__":
    main()
