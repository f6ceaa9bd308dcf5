"""Pages, lists and figures with many backups in the catalogue."""

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from cuid2 import create_id
from sqlalchemy import insert, text

from app.extensions import db
from app.models import DatabaseBackup, Level, Proof, Result, Status, Trigger
from app.models.backup import filename_of
from app.models.types import now
from app.services.databases.lookup import default_database
from app.services.databases.service import add_database
from bench.harness import Aim, Claim, Row, Taken, Way, interleaved, timed
from bench.panel import Client, Home, Panel
from bench.planting import planting
from bench.world import World

_SERVER = "127.0.0.1:1"  # nobody listens there
_TOKEN = "only for this measurement"  # noqa: S105 - opens nothing else
_FEW = (100, 2)  # backups of databases
_AT_ONCE = 2_000  # rows
_ASKED = 5  # times in a round; the median counts
_LOG = "\n".join(f'pg_dump: dumping contents of table "public.table_{n}"' for n in range(40))
_TABLES = [{"schema": "public", "name": f"table_{n}", "rows": n * 1000} for n in range(25)]

#: As many rows in both catalogues, except where every database has a row.
_GROUPS = {
    "pages": (
        "/admin/",
        "/admin/backup",
        "/admin/backup?status=PENDING",
        "/admin/backup?proof=read",
        "/admin/backup?copy=missing",
        "/admin/backup?trigger=schedule",
        "/admin/backup?sort=oldest",
        "/admin/backup?sort=largest",
        "/admin/backup?q=night",
        "/admin/backup?q=nowhere",
    ),
    "the page of databases, a row each": ("/admin/databases",),
    "API lists": (
        "/api/admin/backup",
        "/api/admin/backup?limit=100",
        "/api/admin/backup?status=PENDING",
        "/api/admin/restores",
    ),
    "/metrics, lines for each database": ("/metrics",),
}


def catalogue(world: World) -> Iterator[Row]:
    """Two panels on SQLite, whose web processes are asked in turns."""
    many = (world.scale.backups, world.scale.databases)
    with ExitStack() as panels:
        ways: dict[str, Way] = {}
        for name, (backups, databases) in (("many", many), ("few", _FEW)):
            url, token = f"postgresql://u:p@{_SERVER}/shop_0", {"BACKSTOP_METRICS_TOKEN": _TOKEN}
            home = Home(world.folder / name, url, more=token)
            fill(home, backups, databases)
            panel = panels.enter_context(home.panel("web"))
            ways[name] = lambda panel=panel: _asked(panel)
        warm = time.monotonic() + world.scale.window  # first answers, and the first look for alarms
        while time.monotonic() < warm:
            for way in ways.values():
                way()
        rounds = interleaved(ways, world.scale.rounds)
    sizes = [f"{backups:,} backups of {databases} databases" for backups, databases in (many, _FEW)]
    for group, paths in _GROUPS.items():
        worst = max(paths, key=lambda path: _ratio(rounds.values, path))
        remark = f"most for {worst}: {_ratio(rounds.values, worst):.2f}" if len(paths) > 1 else ""
        claim = Claim(group, sizes[0], sizes[1], Aim(1.5), f"{group} ms", "one after the other")
        yield claim.row(rounds, "many", "few", remark)


def _ratio(values: Any, path: str) -> float:
    many, few = values("many", path), values("few", path)
    return statistics.median(one / other for one, other in zip(many, few, strict=True))


def _asked(panel: Panel) -> Taken:
    """Milliseconds of each path, and of each group."""
    anybody = Client(panel.client.port, {"Authorization": f"Bearer {_TOKEN}"})
    took: dict[str, float] = {}
    for group, paths in _GROUPS.items():
        client = anybody if "/metrics" in paths else panel.client
        took |= {path: _milliseconds(client, path) for path in paths}
        took[f"{group} ms"] = sum(took[path] for path in paths)
    return took


def _milliseconds(client: Client, path: str) -> float:
    took = []
    for _ in range(_ASKED):
        with timed() as taken:
            client.ask(path)
        took.append(taken["s"] * 1000)
    return statistics.median(took)


def fill(home: Home, backups: int, databases: int) -> None:
    """Plant rows in the catalogue of a panel that does not run, and empty files for dumps."""
    chance = random.Random(5)  # noqa: S311 - the same rows each time
    with planting(home):
        ids = [default_database().id]
        for n in range(1, databases):
            url = f"postgresql://u:p@{_SERVER}/shop_{n}"
            ids.append(add_database(f"shop_{n}", url, by="bench").id)
        with db.engine.begin() as connection:
            for start in range(0, backups, _AT_ONCE):
                numbers = range(start, min(start + _AT_ONCE, backups))
                rows = [_backup(n, backups, ids, chance) for n in numbers]
                connection.execute(insert(DatabaseBackup), rows)
                connection.execute(insert(Proof), list(_proofs(rows, len(ids), start)))
                for row in rows:
                    if row["status"] is Status.COMPLETED:
                        home.dump(row["filename"]).touch()
            connection.execute(text("ANALYZE"))


def _backup(n: int, number: int, ids: list[str], chance: random.Random) -> dict[str, Any]:
    moment = now() - timedelta(minutes=3 * (number - n))
    is_whole = chance.random() >= 0.02  # noqa: PLR2004
    return {
        "id": create_id(),
        "filename": filename_of(moment),
        "created_at": moment,
        "started_at": moment,
        "finished_at": moment + timedelta(seconds=chance.randrange(50, 60)),
        "told_at": moment,
        "database_id": ids[n % len(ids)],
        "server": _SERVER,
        "database": f"shop_{n % len(ids)}",
        "status": Status.COMPLETED if is_whole else Status.FAILED,
        "trigger": chance.choice([Trigger.SCHEDULE] * 8 + [Trigger.API, Trigger.ADMIN]),
        "created_by": "nightly",
        "size": chance.randrange(9 * 10**8, 10**9) if is_whole else 0,
        "notes": f"night {n}",
        "sha256": "0" * 64,
        "proven": is_whole,
        "error_message": "" if is_whole else "connection refused",
        "log": _LOG,
        "contents": {"tables": _TABLES},
    }


def _proofs(rows: list[dict[str, Any]], databases: int, start: int) -> Iterator[dict[str, Any]]:
    """One with each dump, and a drill of each tenth backup of a database."""
    for n, row in enumerate(rows, start):
        is_drilled = n // databases % 10 == 9  # noqa: PLR2004
        for level in [Level.READ] + [Level.RESTORED] * is_drilled:
            if row["status"] is Status.COMPLETED:
                yield {
                    "id": create_id(),
                    "backup_id": row["id"],
                    "level": int(level),
                    "result": Result.PASSED,
                    "proved_at": row["finished_at"],
                    "milliseconds": 1000,
                    "evidence": {"tables": 25, "rows": 300_000, "differences": []},
                }
