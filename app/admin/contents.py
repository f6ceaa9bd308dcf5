"""The tables that a backup holds, to look at and to choose from."""

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from app.postgres.selection import written
from app.services.backups import listing
from app.services.restores import tables as service

blueprint = Blueprint("contents", __name__)

_LISTED = 100


@blueprint.get("/backup/<filename>/contents")
def index(filename: str) -> ResponseReturnValue:
    """Some of them at a time."""
    query = request.args.get("q", "")[:200]
    sort = request.args.get("sort", "")
    sort = sort if sort in service.SORTS else "name"
    offset = max(request.args.get("offset", 0, type=int), 0)
    backup = listing.get_backup(filename)
    return render_template(
        "contents/index.html",
        backup=backup,
        has_file=listing.has_file(backup),
        contents=service.list_contents(
            filename, query=query, sort=sort, limit=_LISTED, offset=offset
        ),
        query=query,
        sort=sort,
        offset=offset,
        limit=_LISTED,
        written=written,
    )
