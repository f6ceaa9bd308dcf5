"""Copies in stores as JSON."""

from flask import Blueprint, Response, jsonify, url_for
from flask.typing import ResponseReturnValue
from marshmallow import Schema, fields, validate

from app.api.calls import Values, call, success
from app.api.schemas import NothingSchema
from app.api.shapes import COPY, DUMP
from app.auth import signed_in_admin
from app.config import CANCEL_PATIENCE
from app.downloads import copy_response
from app.models import Trigger
from app.schemas.copies import copy_row
from app.services.copies import service

blueprint = Blueprint("copies", __name__)


class CopyListSchema(Schema):
    """The query of a list of copies."""

    filename = fields.String(load_default="")
    store = fields.String(load_default="")
    limit = fields.Integer(load_default=50, validate=validate.Range(1, service.MAX_LIMIT))


class NewCopySchema(Schema):
    """The body of a request for a copy."""

    store = fields.String(required=True)


@blueprint.get("/copies")
@call({200: {"copies": [COPY]}}, query=CopyListSchema)
def index(query: Values) -> ResponseReturnValue:
    """The copies of the newest backups, of one backup, or in one store."""
    copies, names = service.list_copies(**query), service.names_of_stores()
    return jsonify({"copies": [copy_row(copy, names[copy.store_id]) for copy in copies]})


@blueprint.post("/backup/<filename>/copies")
@call({202: success(copy=COPY, message=str)}, body=NewCopySchema, refusals=[409])
def create(filename: str, body: Values) -> ResponseReturnValue:
    """Copy a backup to a store."""
    store, by = body["store"], signed_in_admin().username
    copy = service.copy_backup(filename, store, trigger=Trigger.API, by=by)
    answer = {"success": True, "copy": copy_row(copy, store), "message": "Copy started"}
    return answer, 202, {"Location": url_for(".show", copy_id=copy.id)}


@blueprint.get("/copies/<copy_id>")
@call({200: COPY})
def show(copy_id: str) -> ResponseReturnValue:
    """One copy."""
    return jsonify(_row(copy_id))


@blueprint.get("/copies/<copy_id>/download")
@call({200: DUMP, 206: DUMP, 304: None}, refusals=[409, 416, 502, 503])
def download(copy_id: str) -> Response:
    """The copy as it lies in its store, or a range of it; an encrypted one stays encrypted."""
    return copy_response(copy_id)


@blueprint.post("/copies/<copy_id>/cancel")
@call({200: success(copy=COPY)}, body=NothingSchema, refusals=[409])
def cancel(copy_id: str) -> ResponseReturnValue:
    """Cancel one that waits or is being made."""
    service.cancel_copy(copy_id, by=signed_in_admin().username)
    service.wait_for_copy(copy_id, CANCEL_PATIENCE)
    return {"success": True, "copy": _row(copy_id)}


@blueprint.post("/copies/<copy_id>/verify")
@call({202: success(message=str)}, body=NothingSchema, refusals=[409])
def verify(copy_id: str) -> ResponseReturnValue:
    """Have a worker read it back."""
    service.queue_verification(copy_id, by=signed_in_admin().username)
    return {"success": True, "message": "The copy will be read back"}, 202


@blueprint.post("/copies/<copy_id>/fetch")
@call({202: success(message=str)}, body=NothingSchema, refusals=[409])
def fetch(copy_id: str) -> ResponseReturnValue:
    """Have a worker bring it back, so that its backup can be restored."""
    service.queue_fetch(copy_id, by=signed_in_admin().username)
    return {"success": True, "message": "The copy will be fetched"}, 202


@blueprint.delete("/copies/<copy_id>")
@call({200: success(message=str)}, body=NothingSchema, refusals=[409, 502, 507])
def delete(copy_id: str) -> ResponseReturnValue:
    """Remove it from its store; the backup itself stays."""
    service.remove_copy(copy_id, by=signed_in_admin().username)
    return {"success": True, "message": "Copy removed"}


def _row(copy_id: str) -> dict[str, object]:
    copy = service.get_copy(copy_id)
    return copy_row(copy, service.names_of_stores()[copy.store_id])
