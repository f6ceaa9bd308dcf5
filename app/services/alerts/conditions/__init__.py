"""The troubles of this moment, found in the catalogue.

Almost nothing is remembered here: every process finds the same, however often it
looks. So a process that dies loses nothing, and nothing is found twice.
"""

from collections.abc import Iterator
from datetime import datetime

from app.models import State
from app.services.alerts.conditions.backups import (
    failing,
    list_completed,
    too_old,
    unlike_the_others,
)
from app.services.alerts.conditions.copies import lost_copies, overdue_copies
from app.services.alerts.conditions.exports import overdue_exports
from app.services.alerts.conditions.machine import failing_notifiers, low_disk, silent_workers
from app.services.alerts.conditions.proven import damaged, failing_drills, missing_files
from app.services.alerts.conditions.trouble import Trouble
from app.services.alerts.conditions.unguarded import unguarded_databases
from app.services.databases.lookup import state_of
from app.services.databases.unguarded import list_servers

__all__ = ["Trouble", "find_troubles", "missing_files"]


def find_troubles(at: datetime) -> Iterator[Trouble]:
    """Troubles that are cheap to find; missing files are not.

    The number of queries does not grow with the databases.
    """
    servers, completed = list_servers(), list_completed()
    databases = [database for server in servers for database in server.databases]
    yield from damaged()
    yield from failing()
    yield from too_old([row for row in databases if state_of(row) is State.ACTIVE], completed, at)
    for database in databases:
        yield from unlike_the_others(database, completed)
    yield from failing_drills()
    yield from low_disk()
    yield from silent_workers(at)
    yield from failing_notifiers(at)
    yield from unguarded_databases(servers)
    yield from overdue_copies(at)
    yield from lost_copies()
    yield from overdue_exports(at)
