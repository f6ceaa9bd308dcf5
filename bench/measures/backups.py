"""A backup beside the commands that people run instead, and what it costs the server."""

import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from bench.harness import Aim, Claim, Rounds, Row, Taken, Way, interleaved
from bench.world import LARGE, MANY, World

_COMPLETED = "backup to COMPLETED, proof included"
_API = "POST /api/admin/backup"

#: The bare commands: what they are called, options, through what, and the aims.
_PLAIN = "pg_dump -F c -b -v"
_SAME = "pg_dump -F c --compress=zstd:1"
_OTHERS = {
    _PLAIN: (("-F", "c", "-b", "-v"), ""),
    _SAME: (("-F", "c", "-b", "--compress=zstd:1"), ""),
    "pg_dump -Fc --compress=zstd:5": (("-Fc", "--compress=zstd:5"), ""),
    "pg_dump | gzip": ((), "gzip"),
    "pg_dump | zip": ((), "zip -q - -"),
}
_AIMS = {_PLAIN: 0.15, _SAME: 0.9}
_NOTES = {
    _PLAIN: "gzip, its default",
    "pg_dump -Fc --compress=zstd:5": "the command of Databasus",
    "pg_dump | zip": "plain SQL, zipped",
}


def backup(world: World) -> Iterator[Row]:
    """Each bare command ends with sync: ours is durable as well."""
    ways: dict[str, Way] = {_COMPLETED: world.panel.timed_backup}
    for name, (options, through) in _OTHERS.items():
        if not through or shutil.which(through.split()[0]):
            ways[name] = partial(world.pg_dump, world.large, *options, through=through)
    rounds = interleaved(ways, world.scale.rounds)
    for name in list(ways)[1:]:
        aim = Aim(_AIMS.get(name, 0.5))
        note = _NOTES.get(name, "")
        yield Claim(_COMPLETED, _API, name, aim, notes=note).row(rounds, _COMPLETED, name)
    size = Claim("size of the dump", _API, _PLAIN, Aim(1.0), "MB")
    yield size.row(rounds, _COMPLETED, _PLAIN)


def small(world: World) -> Iterator[Row]:
    """Of the sample, in a new process each."""
    home = world.new_home("small", world.small)
    home.flask("backup", "create", "-q")  # makes the catalogue

    def ours() -> Taken:
        start = home.timed_flask("--version")
        return {"s": home.timed_flask("backup", "create", "-q") - start}

    bare = partial(world.pg_dump, world.small, *_OTHERS[_SAME][0])
    rounds = interleaved({"ours": ours, "bare": bare}, world.scale.rounds)
    yield Claim(
        "backup of a small database by the terminal",
        "flask backup create, less flask --version",
        _SAME,
        Aim(0.3, "s"),
        notes="a difference: how much more it takes; import of the application included",
    ).row(rounds, "ours", "bare")


def tables(world: World) -> Iterator[Row]:
    """Of a database whose tables have one row each."""
    world.panel.guard(MANY, world.url(world.many_tables.database))
    bare = partial(world.pg_dump, world.many_tables, *_OTHERS[_SAME][0])
    ways: dict[str, Way] = {"ours": lambda: world.panel.timed_backup(MANY), "bare": bare}
    rounds = interleaved(ways, world.scale.rounds)
    name = f"backup of {world.scale.tables:,} small tables"
    yield Claim(name, _API, _SAME, notes="proof included").row(rounds, "ours", "bare")


# The guarded server

_READ = """
    SELECT blks_hit + blks_read, blks_read FROM pg_stat_database WHERE datname = current_database()
"""
_SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def load(world: World) -> Iterator[Row]:
    """Sessions that have ended, as the kernel and the server have counted them."""
    ours, bare = world.panel.timed_backup, partial(world.pg_dump, world.large, *_OTHERS[_SAME][0])
    ways: dict[str, Way] = {
        "ours": lambda: _cost(world, ours),
        "bare": lambda: _cost(world, bare),
    }
    rounds = interleaved(ways, world.scale.rounds)
    for what, unit, note in (
        ("processor", "CPU s", "of all sessions of the server, which also count the rows for us"),
        ("buffers", "buffers", "found in shared buffers or read into them"),
        ("blocks read", "blocks", "into shared buffers, from the cache of the kernel or the disk"),
    ):
        claim = Claim(f"load on the guarded server: {what}", _API, _SAME, Aim(1.1), unit, note)
        yield from _if_counted(claim, rounds)


def _if_counted(claim: Claim, rounds: Rounds) -> Iterator[Row]:
    """Nothing where the bare command has cost nothing: a small database stays in memory."""
    if all(rounds.values("bare", claim.unit)):
        yield claim.row(rounds, "ours", "bare")


def _cost(world: World, way: Way) -> Taken:
    postmaster = _postmaster(world)
    before, (buffers, blocks) = _seconds(postmaster), _figures(world)
    way()
    while world.run(LARGE, _SESSIONS) != [(0,)]:
        time.sleep(0.02)
    (buffers_now, blocks_now), seconds = _figures(world), _seconds(postmaster) - before
    return {"CPU s": seconds, "buffers": buffers_now - buffers, "blocks": blocks_now - blocks}


def _figures(world: World) -> tuple[int, int]:
    ((buffers, blocks),) = world.run(LARGE, _READ)
    return buffers, blocks


def _postmaster(world: World) -> psutil.Process:
    ((folder,),) = world.run(LARGE, "SHOW data_directory")
    return psutil.Process(int((Path(folder) / "postmaster.pid").read_text().split()[0]))


def _seconds(postmaster: psutil.Process) -> float:
    """Of its children that have ended."""
    times = postmaster.cpu_times()
    return float(times.children_user + times.children_system)
