"""Who looks at a page: the time zone in which they see its times.

Commands, and calls of the API, have no viewer: they see UTC.
"""

from contextlib import suppress
from datetime import UTC, tzinfo

from flask import g, has_app_context

from app.errors import InvalidInput
from app.models import Admin
from app.zones import get_zone


def show_to(admin: Admin) -> None:
    """Let this admin be the viewer, until the request ends."""
    with suppress(InvalidInput):  # the machine no longer knows their zone
        g.viewer_zone = get_zone(admin.time_zone)


def zone() -> tzinfo:
    """The viewer's time zone."""
    its: tzinfo = g.get("viewer_zone", UTC) if has_app_context() else UTC
    return its


def zone_name() -> str:
    """The name of the viewer's time zone."""
    return str(zone())
