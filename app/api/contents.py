"""The tables that a backup holds, as JSON."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call
from app.api.schemas import ContentsSchema
from app.api.shapes import TABLE
from app.services.restores.tables import list_contents

blueprint = Blueprint("contents", __name__)


@blueprint.get("/backup/<filename>/contents")
@call({200: {"tables": [TABLE], "total": int}}, query=ContentsSchema, refusals=[409, 502])
def index(filename: str, query: Values) -> ResponseReturnValue:
    """Some of them at a time."""
    contents = list_contents(
        filename,
        query=query["q"],
        sort=query["sort"],
        limit=query["limit"],
        offset=query["offset"],
    )
    return jsonify({"tables": contents.tables, "total": contents.total})
