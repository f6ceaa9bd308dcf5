"""The tables that a backup holds, as JSON."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.parsing import read_query
from app.api.schemas import ContentsSchema
from app.services.restores.tables import list_contents

blueprint = Blueprint("contents", __name__)


@blueprint.get("/backup/<filename>/contents")
def index(filename: str) -> ResponseReturnValue:
    """Some of them at a time."""
    query = read_query(ContentsSchema())
    found = list_contents(
        filename,
        query=query["q"],
        sort=query["sort"],
        limit=query["limit"],
        offset=query["offset"],
    )
    return jsonify({"tables": found.tables, "total": found.total})
