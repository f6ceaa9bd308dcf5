"""How long an application's DDL waits for a backup."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

from bench.harness import Claim, Row, Taken, Way, interleaved, timed
from bench.world import LARGE, World

_LOCKED = """
    SELECT count(*) > 0 FROM pg_locks
    WHERE relation = 'bench.items_1'::regclass AND mode = 'AccessShareLock' AND granted
      AND pid <> pg_backend_pid()
"""


def waiting(world: World) -> Iterator[Row]:
    """As soon as one of the two has locked a table, ALTER TABLE asks for that table."""
    bare = partial(world.pg_dump, world.large, "-F", "c", "-b", "--compress=zstd:1")
    ways: dict[str, Way] = {
        "ours": lambda: _waited_for(world, world.panel.timed_backup),
        "bare": lambda: _waited_for(world, bare),
    }
    rounds = interleaved(ways, world.scale.rounds)
    yield Claim(
        "ALTER TABLE waits for the lock of a backup",
        "POST /api/admin/backup",
        "pg_dump -F c --compress=zstd:1",
        notes="from the moment when the backup has locked the table",
    ).row(rounds, "ours", "bare")


def _waited_for(world: World, run: Callable[[], object]) -> Taken:
    running = threading.Thread(target=run)
    with closing(world.connected(LARGE)) as connection, connection.cursor() as cursor:
        running.start()
        while True:
            cursor.execute(_LOCKED)
            if cursor.fetchone() == (True,):
                break
            assert running.is_alive(), "it has ended before it locked the table"
            time.sleep(0.005)
        with timed() as taken:
            cursor.execute("ALTER TABLE bench.items_1 ADD COLUMN more int")
        running.join()
        cursor.execute("ALTER TABLE bench.items_1 DROP COLUMN more")
    return taken
