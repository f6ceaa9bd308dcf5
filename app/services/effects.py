"""Whether a restore that did not live to tell has happened all the same."""

from app.services.in_place import has_loaded
from app.services.swaps import has_swapped


def has_taken_effect(restore_id: str) -> bool:
    """Whether the living database is that of the backup; the restore's sessions are ended first.

    Raises ConnectError, PostgresError where that cannot be told.
    """
    return has_swapped(restore_id) or has_loaded(restore_id)
