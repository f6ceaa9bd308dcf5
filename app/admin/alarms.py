"""Alarms: those that are open, and those of the past."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from app.services.alerts import alarms as service

blueprint = Blueprint("alarms", __name__, url_prefix="/alarms")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """The list."""
    return render_template(
        "alarms/index.html",
        open_alarms=service.list_alarms(limit=service.MAX_LIMIT, is_open=True),
        past=service.list_alarms(is_open=False),
    )
