"""Who did what, as JSON, and all of it as JSON lines."""

from flask import Blueprint, Response, jsonify, stream_with_context
from flask.typing import ResponseReturnValue

from app.api.parsing import read_query
from app.api.schemas import AuditExportSchema, AuditSchema
from app.schemas.reports import audit_row
from app.services.audit import search as service

blueprint = Blueprint("audit", __name__, url_prefix="/audit")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """The newest entries."""
    query = read_query(AuditSchema())
    page = service.list_entries(
        service.read_filters(query), before=query["before"], limit=query["limit"]
    )
    return jsonify(
        {"entries": [audit_row(entry) for entry in page.entries], "nextBefore": page.next_before}
    )


@blueprint.get("/export")
def export() -> ResponseReturnValue:
    """All entries that fit, oldest first, one a line."""
    filters = service.read_filters(read_query(AuditExportSchema()))
    lines = stream_with_context(service.export_lines(filters))
    return Response(lines, mimetype="application/jsonl")
