"""Who did what, as JSON, and all of it as JSON lines."""

from flask import Blueprint, Response, jsonify, stream_with_context
from flask.typing import ResponseReturnValue

from app.api.calls import Medium, Values, call
from app.api.schemas import AuditExportSchema, AuditSchema
from app.api.shapes import ENTRY
from app.schemas.reports import audit_row
from app.services.audit import search as service

blueprint = Blueprint("audit", __name__, url_prefix="/audit")


@blueprint.get("")
@call({200: {"entries": [ENTRY], "nextBefore": (int, None)}}, query=AuditSchema)
def index(query: Values) -> ResponseReturnValue:
    """The newest entries."""
    page = service.list_entries(
        service.read_filters(query), before=query["before"], limit=query["limit"]
    )
    return jsonify(
        {"entries": [audit_row(entry) for entry in page.entries], "nextBefore": page.next_before}
    )


@blueprint.get("/export")
@call({200: Medium("application/jsonl")}, query=AuditExportSchema)
def export(query: Values) -> ResponseReturnValue:
    """All entries that fit, oldest first, one a line."""
    filters = service.read_filters(query)
    lines = stream_with_context(service.export_lines(filters))
    return Response(lines, mimetype="application/jsonl")
