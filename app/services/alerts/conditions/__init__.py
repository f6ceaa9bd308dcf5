"""The troubles of this moment, found in the catalogue.

Almost nothing is remembered here: every process finds the same, however often it
looks. So a process that dies loses nothing, and nothing is found twice.
"""

from collections.abc import Iterator
from datetime import datetime

from app.services.alerts.conditions.backups import (
    failing,
    list_ended,
    too_old,
    unlike_the_others,
)
from app.services.alerts.conditions.machine import failing_notifiers, low_disk, silent_workers
from app.services.alerts.conditions.proven import damaged, failing_drills, missing_files
from app.services.alerts.conditions.trouble import Trouble
from app.services.databases.configured import database_name

__all__ = ["Trouble", "find_troubles", "missing_files"]


def find_troubles(at: datetime) -> Iterator[Trouble]:
    """Troubles that are cheap to find; missing files are not."""
    name = database_name()  # one today
    ended = list_ended(name)
    yield from failing(name, ended)
    yield from too_old(name, at)
    yield from unlike_the_others(name, ended)
    yield from failing_drills(name)
    yield from damaged()
    yield from low_disk()
    yield from silent_workers(at)
    yield from failing_notifiers(at)
