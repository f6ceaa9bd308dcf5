"""The troubles of this moment, found in the catalogue.

Almost nothing is remembered here: every process finds the same, however often it
looks. So a process that dies loses nothing, and nothing is found twice.
"""

from collections.abc import Iterator
from datetime import datetime

from app.models import Database, State
from app.services.alerts.conditions.backups import (
    failing,
    list_ended,
    too_old,
    unlike_the_others,
)
from app.services.alerts.conditions.machine import failing_notifiers, low_disk, silent_workers
from app.services.alerts.conditions.proven import damaged, failing_drills, missing_files
from app.services.alerts.conditions.trouble import Trouble
from app.services.alerts.conditions.unguarded import unguarded_databases
from app.services.databases.lookup import state_of
from app.services.databases.unguarded import list_servers

__all__ = ["Trouble", "find_troubles", "missing_files"]


def find_troubles(at: datetime) -> Iterator[Trouble]:
    """Troubles that are cheap to find; missing files are not."""
    yield from damaged()
    servers = list_servers()
    for database in (database for server in servers for database in server.databases):
        if state_of(database) is not State.RETIRED:
            yield from _troubles_of(database, at)
    yield from low_disk()
    yield from silent_workers(at)
    yield from failing_notifiers(at)
    yield from unguarded_databases(servers)


def _troubles_of(database: Database, at: datetime) -> Iterator[Trouble]:
    ended = list_ended(database)
    yield from failing(database, ended)
    if database.state is State.ACTIVE:
        yield from too_old(database, at)
    yield from unlike_the_others(database, ended)
    yield from failing_drills(database)
