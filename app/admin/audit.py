"""Who did what: the list with its filters, and all of it as a file."""

from flask import Blueprint, Response, render_template, request, stream_with_context
from flask.typing import ResponseReturnValue

from app import viewer
from app.errors import InvalidInput
from app.models import ActOutcome
from app.services.audit import search as service

blueprint = Blueprint("audit", __name__, url_prefix="/audit")

_LISTED = 50


@blueprint.get("")
def index() -> ResponseReturnValue:
    """A page of entries, newest first."""
    asked, before = request.args.to_dict(), request.args.get("before")
    page, refused = service.Page([], None), None
    try:
        filters = service.read_filters(asked, viewer.zone())
        page = service.list_entries(filters, before=before, limit=_LISTED)
    except InvalidInput as error:
        refused = error
    rendered = render_template(
        "audit/index.html",
        page=page,
        asked={name: asked[name] for name in service.WORDS if asked.get(name)},
        before=before,
        outcomes=[outcome.value for outcome in ActOutcome],
        error=refused,
    )
    return rendered, 422 if refused else 200


@blueprint.get("/export")
def export() -> ResponseReturnValue:
    """All matching entries, oldest first, as JSON lines."""
    filters = service.read_filters(request.args.to_dict(), viewer.zone())
    lines = stream_with_context(service.export_lines(filters))
    response = Response(lines, mimetype="application/jsonl")
    response.headers["Content-Disposition"] = 'attachment; filename="backstop-audit.jsonl"'
    return response
