"""Look after a load on a server that others use too: what it takes, and whether it moves."""

import time
from dataclasses import dataclass

import humanize

from app.errors import NotPossible
from app.postgres.databases import Server

_EVERY = 1.0  # seconds between two looks
_KEPT_FREE = 0.1  # of the server's disk

# How large the database is, and how many sessions in it work: they neither sleep nor
# wait for a lock or for somebody.
_LOOK = """
    SELECT pg_database_size(%s::name), (
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = %s AND state = 'active' AND COALESCE(wait_event_type, '')
              NOT IN ('Activity', 'Client', 'Extension', 'Lock', 'Timeout'))
"""


@dataclass(frozen=True)
class Limits:
    """What a load may take: bytes of disk, and seconds in which nothing happens."""

    disk: int
    stall: int


class LoadWatch:
    """Looks once a second; called far more often. Raises NotPossible beyond a limit."""

    def __init__(self, server: Server, database: str, limits: Limits) -> None:
        self._server, self._database, self._limits = server, database, limits
        self._looked = self._moved = time.monotonic()
        self._seen = (0, 0)  # bytes and lines when it moved last

    def __call__(self, lines: int) -> None:
        """Look, if it is time for it; pg_restore has told so many lines."""
        moment = time.monotonic()
        if moment < self._looked + _EVERY:
            return
        self._looked = moment
        rows = self._server.rows(_LOOK, self._database, self._database)
        size, busy = rows[0]
        if size > self._limits.disk:
            raise NotPossible(
                f"the new database took more than {_told(self._limits.disk)} and was dropped",
                detail="So much is not expected of this dump: something in it fills the disk.",
                hint="Look at what its functions and views do when they are loaded.",
            )
        self._refuse_full_disk()
        if busy or self._seen != (size, lines):
            self._moved, self._seen = moment, (size, lines)
        elif moment > self._moved + self._limits.stall:
            raise NotPossible(
                f"the restore did not move for {self._limits.stall} s and was ended",
                detail="Its sessions neither worked nor wrote: something in the dump sleeps,"
                " or somebody holds a lock.",
                hint="Raise BACKSTOP_STALL_TIMEOUT if that is to be.",
            )

    def _refuse_full_disk(self) -> None:
        disk = self._server.disk()
        if disk is not None and disk.free < _KEPT_FREE * disk.total:
            raise NotPossible(
                f"the restore was ended: less than {_KEPT_FREE:.0%} of the server's disk is free",
                detail=f"{_told(disk.free)} of {_told(disk.total)} are free.",
                hint="Free some space on the server.",
            )


def _told(size: int) -> str:
    return humanize.naturalsize(size, binary=True)
