"""The tables that a backup holds, and what has changed since another, as JSON."""

from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call
from app.api.schemas import ComparisonSchema, ContentsSchema
from app.api.shapes import COMPARISON, SQL, TABLE
from app.downloads import schema_response
from app.schemas.reports import comparison_row
from app.services.restores.comparison import compare_backups
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


@blueprint.get("/backup/<filename>/schema")
@call({200: SQL}, refusals=[502])
def schema(filename: str) -> Response:
    """The SQL that creates all that the backup holds, without rows."""
    return schema_response(filename)


@blueprint.get("/backup/<filename>/comparison")
@call({200: COMPARISON}, query=ComparisonSchema, refusals=[502])
def compare(filename: str, query: Values) -> ResponseReturnValue:
    """What has changed since another backup."""
    return jsonify(comparison_row(compare_backups(filename, query["earlier"])))
