"""The tables in a backup, to browse and choose from, and what has changed since another."""

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.admin.passwords import error_text
from app.downloads import schema_response
from app.errors import InvalidInput
from app.postgres.selection import written
from app.services.backups import listing
from app.services.restores import tables as service
from app.services.restores.comparison import compare_backups, list_earlier

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


@blueprint.get("/backup/<filename>/schema")
def schema(filename: str) -> Response:
    """The definitions, as SQL that a browser shows."""
    return schema_response(filename)


@blueprint.get("/backup/<filename>/comparison")
def compare(filename: str) -> ResponseReturnValue:
    """What has changed since an earlier backup, the last one unless another is chosen."""
    try:
        comparison = compare_backups(filename, request.args.get("earlier", "")[:255])
    except InvalidInput as error:
        flash(error_text(error), "warning")
        return redirect(url_for("admin.backups.show", filename=filename))
    return render_template(
        "contents/compare.html",
        comparison=comparison,
        backup=comparison.backup,
        earlier=list_earlier(comparison.backup),
    )
