"""The page by which a dump is brought from elsewhere; its script sends the parts to the API."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from app.config import UPLOAD_PART, settings

blueprint = Blueprint("uploads", __name__, url_prefix="/import")


@blueprint.get("")
def new() -> ResponseReturnValue:
    """Choose a file."""
    limit = settings().upload_limit * 1024**3
    return render_template("backups/import.html", limit=limit, part=UPLOAD_PART)
