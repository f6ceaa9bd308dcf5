"""How long a backup takes beside the bare pg_dump, and how much memory.

    python bench/backup.py [MEGABYTES]

Makes a database of about that size (1,000 by default) on the embedded server
and prints ratios: absolute times say little about another machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.embedded import EmbeddedServer
from app.postgres.tools import Version, choose_toolchain, find_toolchains

ROUNDS = 3

TABLES = """
    CREATE SCHEMA bench;
    SET search_path = bench;
    CREATE TABLE items AS
        SELECT n AS id, md5(n::text) AS code,
               md5((n * 7)::text) || ' lorem ipsum dolor sit amet ' || n % 1000 AS text,
               (n % 100000) * 0.01 AS price, timestamp '2026-01-01' + n * interval '1 s' AS at
        FROM generate_series(1, {rows}) n;
    CREATE TABLE orders AS
        SELECT n AS id, n % 50000 AS customer, 'pending shipped done ' || n % 17 AS state,
               jsonb_build_object('a', n % 100, 'b', md5((n % 1000)::text)) AS extra
        FROM generate_series(1, {rows}) n;
    CREATE INDEX ON items (id);
    CREATE INDEX ON orders (id);
"""


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory(prefix="backstop-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = EmbeddedServer(folder / "instance")
        with server.used():
            measure(server, folder, megabytes)


def measure(server: EmbeddedServer, folder: Path, megabytes: int) -> None:
    info, version = fill(server, megabytes)
    pg_dump = choose_toolchain(find_toolchains(), version).pg_dump
    with client_environment(info, folder / "private") as environment:

        def bare(compress: str) -> None:
            target = folder / "bare.dump"
            argv = [pg_dump, "-F", "c", "-b", "-v", "-w", *([compress] if compress else [])]
            subprocess.run(
                [*argv, "-f", target, "-d", info.dsn()],
                env=os.environ | environment,
                check=True,
                stderr=subprocess.DEVNULL,
            )
            subprocess.run(["sync", target], check=True)

        plain = best("pg_dump -F c -b -v (gzip, its default)", lambda: bare(""), rounds=1)
        report_size(folder / "bare.dump")
        same = best("pg_dump -F c -b -v --compress=zstd:1", lambda: bare("--compress=zstd:1"))
        report_size(folder / "bare.dump")

    rows: list[dict[str, Any]] = []
    peaks: list[int] = []
    command = best("flask backup create, the whole command", lambda: backup(folder, rows, peaks))
    panel = min(seconds(row) for row in rows)
    print(f"{panel:6.2f} s  the backup, from its request to COMPLETED")
    dumps = sorted((folder / "backups").glob("*.dump"))
    report_size(dumps[-1])
    print(f"\nbackup / pg_dump with the same switches: {panel / same:.2f}  (aim: at most 1.5)")
    print(f"backup / plain pg_dump -F c -b -v:       {panel / plain:.2f}  (aim: at most 0.4)")
    print(f"whole command / pg_dump, same switches:  {command / same:.2f}")
    print(f"peak memory of the process that runs it: {max(peaks) / 2**20:.0f} MiB")


def fill(server: EmbeddedServer, megabytes: int) -> tuple[Conninfo, Version]:
    """Make tables of about that size; returns where they are."""
    info = server.conninfo()
    connection = psycopg2.connect(info.dsn(), password=info.password)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(TABLES.format(rows=megabytes * 3_300))
        cursor.execute("CHECKPOINT")
        cursor.execute("SELECT pg_size_pretty(pg_database_size(current_database()))")
        print("database:", cursor.fetchone()[0])
    version = Version.of_number(connection.server_version)
    connection.close()
    return info, version


def backup(folder: Path, rows: list[dict[str, Any]], peaks: list[int]) -> None:
    """One backup through the terminal; keeps its row and its process's peak memory in bytes."""
    environment = os.environ | {
        "BACKSTOP_INSTANCE_DIR": str(folder / "instance"),
        "BACKSTOP_BACKUP_DIR": str(folder / "backups"),
    }
    peak = 0
    process = psutil.Popen(
        [sys.executable, "-m", "flask", "backup", "create", "-q", "--json"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
    )
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.05)
    output = process.communicate()[0]
    if process.wait() != 0:
        sys.exit("the backup failed")
    rows.append(json.loads(output))
    peaks.append(peak)


def seconds(row: dict[str, Any]) -> float:
    """From the request to COMPLETED, as the row has it."""
    asked, ended = (datetime.fromisoformat(row[key]) for key in ("createdAt", "finishedAt"))
    return (ended - asked).total_seconds()


def best(what: str, run: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        started = time.monotonic()
        run()
        times.append(time.monotonic() - started)
    print(f"{min(times):6.2f} s  {what}")
    return min(times)


def report_size(path: Path) -> None:
    print(f"          {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
