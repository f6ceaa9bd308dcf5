"""Watch a load on a shared server: how much disk it takes, and whether it makes progress."""

import time
from dataclasses import dataclass

import humanize

from app.errors import NotPossible
from app.postgres.databases import Server

_INTERVAL = 1.0  # seconds between two checks
_KEPT_FREE = 0.1  # of the server's disk

# The size of the database, and the number of sessions in it that work: they neither
# sleep nor wait for a lock or a client.
_ACTIVITY = """
    SELECT pg_database_size(%s::name), (
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = %s AND state = 'active' AND COALESCE(wait_event_type, '')
              NOT IN ('Activity', 'Client', 'Extension', 'Lock', 'Timeout'))
"""


@dataclass(frozen=True)
class Limits:
    """The bytes of disk that a load may take, and the seconds it may make no progress."""

    disk: int
    stall: int


class LoadWatch:
    """Called often, it checks once a second. Raises NotPossible beyond a limit."""

    def __init__(self, server: Server, database: str, limits: Limits) -> None:
        self._server, self._database, self._limits = server, database, limits
        self._checked = self._moved = time.monotonic()
        self._seen = (0, 0)  # bytes and lines at the last progress

    def __call__(self, lines: int) -> None:
        """Check if it is time to; `lines` is the number that pg_restore has printed so far."""
        moment = time.monotonic()
        if moment < self._checked + _INTERVAL:
            return
        self._checked = moment
        rows = self._server.rows(_ACTIVITY, self._database, self._database)
        size, busy = rows[0]
        if size > self._limits.disk:
            raise NotPossible(
                f"the new database took more than {_size_text(self._limits.disk)} and was dropped",
                detail="This dump should not need that much: something in it fills the disk.",
                hint="Check what its functions and views do when they are loaded.",
            )
        self._refuse_full_disk()
        if busy or self._seen != (size, lines):
            self._moved, self._seen = moment, (size, lines)
        elif moment > self._moved + self._limits.stall:
            raise NotPossible(
                f"the restore did not move for {self._limits.stall} s and was ended",
                detail="Its sessions neither worked nor wrote: something in the dump sleeps,"
                " or another session holds a lock.",
                hint="Raise BACKSTOP_STALL_TIMEOUT if that is expected.",
            )

    def _refuse_full_disk(self) -> None:
        disk = self._server.disk()
        if disk is not None and disk.free < _KEPT_FREE * disk.total:
            raise NotPossible(
                f"the restore was ended: less than {_KEPT_FREE:.0%} of the server's disk is free",
                detail=f"{_size_text(disk.free)} of {_size_text(disk.total)} are free.",
                hint="Free some space on the server.",
            )


def _size_text(size: int) -> str:
    return humanize.naturalsize(size, binary=True)
