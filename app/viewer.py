"""Who looks at a page: the time zone in which they see times, and their language.

Commands, and calls of the API, have no viewer: they see UTC and English.
"""

from contextlib import suppress
from datetime import UTC, tzinfo

import flask_babel
from flask import g, has_app_context, request

from app.errors import InvalidInput
from app.models import Admin
from app.zones import get_zone

#: Those of the pages, as they call themselves; a catalogue of each but the first is in
#: app/translations.
LANGUAGES = {"en": "English", "de": "Deutsch"}


def show_to(admin: Admin) -> None:
    """Let this admin be the viewer, until the request ends."""
    show_to_visitor()
    with suppress(InvalidInput):  # the machine no longer knows their zone
        g.viewer_zone = get_zone(admin.time_zone)
    if admin.language in LANGUAGES:
        g.viewer_language = admin.language
    flask_babel.refresh()


def show_to_visitor() -> None:
    """Let somebody unknown be the viewer: their browser says which languages they read."""
    g.viewer_zone = UTC
    g.viewer_language = request.accept_languages.best_match(LANGUAGES, default="en")
    flask_babel.refresh()


def checked_language(name: str) -> str:
    """The language of this name, or none of their own: empty. Raises InvalidInput."""
    if name and name not in LANGUAGES:
        raise InvalidInput(
            f"the pages are not in the language {name[:8]!r}",
            hint=f"Languages are {', '.join(LANGUAGES)}.",
        )
    return name


def is_known() -> bool:
    """Whether anybody is the viewer."""
    return "viewer_language" in g


def zone() -> tzinfo:
    """The viewer's time zone."""
    its: tzinfo = g.get("viewer_zone", UTC) if has_app_context() else UTC
    return its


def zone_name() -> str:
    """The name of the viewer's time zone."""
    return str(zone())


def language() -> str:
    """The viewer's language."""
    its: str = g.get("viewer_language", "en") if has_app_context() else "en"
    return its
