"""A restore test, and a replace of a database that clients read."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial

import psycopg2

from bench.harness import Aim, Claim, Row, Taken, Way, interleaved
from bench.panel import seconds_of
from bench.world import LARGE, World

_CLIENTS = 60
_PAUSE = 0.1  # seconds between two questions of a client
_WATCHED = 1.0  # seconds for which clients ask on after their sessions have ended


def restore_test(world: World) -> Iterator[Row]:
    """Both use as many jobs as is best for them."""
    filename = world.backup["filename"]
    dump = world.home.dump(filename)

    def drill() -> Taken:
        row = world.panel.restore(filename, "drills")
        return {"s": seconds_of(row), "load s": row["result"]["seconds"]}

    def bare(jobs: int) -> Taken:
        world.run("postgres", "CREATE DATABASE bare TEMPLATE template0")
        taken = world.pg_restore(dump, "bare", f"-j{jobs}")
        world.run("postgres", "DROP DATABASE bare")
        return taken | {"load s": taken["s"]}

    jobs = {f"pg_restore -j{jobs}": jobs for jobs in sorted({1, os.cpu_count() or 1})}
    ways: dict[str, Way] = {name: partial(bare, number) for name, number in jobs.items()}
    rounds = interleaved({"drill": drill} | ways, world.scale.rounds)
    best = rounds.quickest(*ways)
    against = "pg_restore into an empty database of a running server"
    yield Claim(
        "restore test in a throwaway server",
        "POST …/drills",
        against,
        Aim(1.1),
        notes="ours makes and removes the server, compares, counts all rows and runs pg_amcheck",
    ).row(rounds, "drill", best, best)
    yield Claim(
        "the same, load and comparison only",
        "POST …/drills",
        against,
        Aim(1.1),
        "load s",
        "without the server's start and removal, and without pg_amcheck",
    ).row(rounds, "drill", best, best)


def replace(world: World) -> Iterator[Row]:
    """Ours makes a safety backup of what it replaces, and keeps that until it is dropped."""
    dump = world.home.dump(world.backup["filename"])

    def ours() -> Taken:
        with readers(world) as gaps:
            restore = partial(world.panel.restore, mode="replace", confirm=LARGE)
            row = restore(world.backup["filename"], "restores", password=world.home.password)
        body = {"password": world.home.password}
        world.panel.client.ask(f"/api/admin/restores/{row['id']}/kept", "DELETE", body)
        world.panel.delete({"filename": row["safetyBackup"]})
        return {"s": seconds_of(row), "gap s": max(gaps)}

    def bare() -> Taken:
        with readers(world) as gaps:
            taken = world.pg_restore(dump, LARGE, "-c", "--if-exists")
        return taken | {"gap s": max(gaps)}

    def ended() -> Taken:
        with readers(world) as gaps:
            world.run("postgres", _END_SESSIONS)
            time.sleep(_WATCHED)
        return {"gap s": max(gaps)}

    rounds = interleaved({"ours": ours, "bare": bare, "ended": ended}, world.scale.rounds)
    clients = f"{_CLIENTS} clients read a row every {_PAUSE:g} s and reconnect at once"
    yield Claim(
        "replace of the live database",
        "POST …/restores, mode replace",
        "pg_restore -c into the live database",
        Aim(0.6),
        notes=f"ours makes a safety backup first, and can be undone; {clients}",
    ).row(rounds, "ours", "bare")
    yield Claim(
        "longest time without an answer, replace",
        "POST …/restores, mode replace",
        "their sessions ended, nothing else",
        Aim(1.2),
        "gap s",
        clients,
    ).row(rounds, "ours", "ended")
    yield Claim(
        "longest time without an answer, pg_restore -c",
        "pg_restore -c into the live database",
        "their sessions ended, nothing else",
        unit="gap s",
        notes="for comparison",
    ).row(rounds, "bare", "ended")


#: The least that any swap does: whoever was signed in must sign in anew.
_END_SESSIONS = (
    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{LARGE}'"
    " AND application_name = 'bench reader'"
)


@contextmanager
def readers(world: World) -> Iterator[list[float]]:
    """Clients that ask and reconnect at once; the longest time without an answer for each."""
    clients = [_Reader(world) for _ in range(_CLIENTS)]
    begun = threading.Barrier(len(clients) + 1)  # all that sign in at once is no gap
    over = threading.Event()
    threads = [threading.Thread(target=each.run, args=(begun, over)) for each in clients]
    gaps: list[float] = []
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        yield gaps
    finally:
        over.set()
        for thread in threads:
            thread.join()
        gaps += [each.gap for each in clients]


class _Reader:
    """One client."""

    def __init__(self, world: World) -> None:
        self._world, self.gap = world, 0.0
        self._answered: float | None = None

    def run(self, begun: threading.Barrier, over: threading.Event) -> None:
        while not over.is_set():
            with (
                suppress(psycopg2.Error),
                closing(self._world.connected(LARGE)) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute("SET application_name = 'bench reader'")
                while not over.is_set():
                    cursor.execute("SELECT code FROM bench.items_1 WHERE id = 7")
                    if cursor.fetchone() is not None:  # an empty table is no answer
                        self._note(begun)
                    over.wait(_PAUSE)
            over.wait(0.005)

    def _note(self, begun: threading.Barrier) -> None:
        if self._answered is None:
            begun.wait()
        else:
            self.gap = max(self.gap, time.monotonic() - self._answered)
        self._answered = time.monotonic()
