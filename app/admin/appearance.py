"""Light or dark: a cookie that the server reads."""

from flask import Blueprint, make_response, redirect, request, url_for
from flask.typing import ResponseReturnValue

from app.auth import own_path

THEMES = ("auto", "light", "dark")

blueprint = Blueprint("appearance", __name__)


@blueprint.post("/theme")
def update() -> ResponseReturnValue:
    """Remember the theme in this browser."""
    theme = request.form.get("theme", "")
    target = own_path(request.form.get("next")) or url_for("admin.backups.index")
    response = make_response(redirect(target))
    if theme in THEMES:
        response.set_cookie(
            _cookie(),
            theme,
            max_age=365 * 24 * 3600,
            samesite="Lax",
            secure=request.is_secure,
            httponly=True,
        )
    return response


def _cookie() -> str:
    """Its name; over HTTPS one that no other host can set."""
    return "__Host-theme" if request.is_secure else "theme"


def chosen_theme() -> str:
    """The theme that this browser remembers."""
    chosen = request.cookies.get(_cookie(), "")
    return chosen if chosen in THEMES else "auto"


@blueprint.app_context_processor
def _theme() -> dict[str, str]:
    return {"theme": chosen_theme()}
