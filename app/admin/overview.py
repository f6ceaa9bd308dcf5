"""The overview: whether the databases are protected, and what goes on."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from app import viewer
from app.services.health.dashboard import read_dashboard

blueprint = Blueprint("overview", __name__)


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The answer first, then each database, then the rest."""
    return render_template("overview/index.html", dashboard=read_dashboard(viewer.zone()))
