"""What is not as it should be just now, found in the catalogue, and why.

Next to nothing here is remembered: whoever looks, and however often, finds the
same. So nothing is lost when a process dies, and nothing is found twice.
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
    """What can be found at little cost; missing files cannot."""
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
