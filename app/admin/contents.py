"""The tables in a backup, to browse and choose from."""

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from app.postgres.selection import written
from app.services.backups import listing
from app.services.restores import tables as service

blueprint = Blueprint("contents", __name__)

_LISTED = 100


@blueprint.get("/backup/<filename>/contents")
def index(filename: str) -> ResponseReturnValue:
    """One page of them."""
    query = request.args.get("q", "")[:200]
    sort = request.args.get("sort", "")
    sort = sort if sort in service.SORTS else "name"
    offset = max(request.args.get("offset", 0, type=int), 0)
    contents = service.list_contents(filename, query=query, sort=sort, limit=_LISTED, offset=offset)
    return render_template(
        "contents/index.html",
        backup=contents.backup,
        has_file=listing.has_file(contents.backup),
        contents=contents,
        query=query,
        sort=sort,
        offset=offset,
        limit=_LISTED,
        written=written,
    )
