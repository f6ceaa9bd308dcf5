"""Copies in stores as JSON."""

from flask import Blueprint, jsonify, url_for
from flask.typing import ResponseReturnValue
from marshmallow import Schema, fields, validate

from app.api.parsing import read_body, read_query
from app.api.schemas import NothingSchema
from app.auth import signed_in_admin
from app.config import CANCEL_PATIENCE
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
def index() -> ResponseReturnValue:
    """The copies of the newest backups, of one backup, or in one store."""
    copies, names = service.list_copies(**read_query(CopyListSchema())), service.names_of_stores()
    return jsonify({"copies": [copy_row(copy, names[copy.store_id]) for copy in copies]})


@blueprint.post("/backup/<filename>/copies")
def create(filename: str) -> ResponseReturnValue:
    """Copy a backup to a store."""
    store, by = read_body(NewCopySchema())["store"], signed_in_admin().username
    copy = service.copy_backup(filename, store, trigger=Trigger.API, by=by)
    answer = {"success": True, "copy": copy_row(copy, store), "message": "Copy started"}
    return answer, 202, {"Location": url_for(".show", copy_id=copy.id)}


@blueprint.get("/copies/<copy_id>")
def show(copy_id: str) -> ResponseReturnValue:
    """One copy."""
    return jsonify(_row(copy_id))


@blueprint.post("/copies/<copy_id>/cancel")
def cancel(copy_id: str) -> ResponseReturnValue:
    """Cancel one that waits or is being made."""
    read_body(NothingSchema())
    service.cancel_copy(copy_id, by=signed_in_admin().username)
    service.wait_for_copy(copy_id, CANCEL_PATIENCE)
    return {"success": True, "copy": _row(copy_id)}


@blueprint.post("/copies/<copy_id>/verify")
def verify(copy_id: str) -> ResponseReturnValue:
    """Have a worker read it back."""
    read_body(NothingSchema())
    service.queue_verification(copy_id, by=signed_in_admin().username)
    return {"success": True, "message": "The copy will be read back"}, 202


@blueprint.post("/copies/<copy_id>/fetch")
def fetch(copy_id: str) -> ResponseReturnValue:
    """Have a worker bring it back, so that its backup can be restored."""
    read_body(NothingSchema())
    service.queue_fetch(copy_id, by=signed_in_admin().username)
    return {"success": True, "message": "The copy will be fetched"}, 202


@blueprint.delete("/copies/<copy_id>")
def delete(copy_id: str) -> ResponseReturnValue:
    """Remove it from its store; the backup itself stays."""
    read_body(NothingSchema())
    service.remove_copy(copy_id, by=signed_in_admin().username)
    return {"success": True, "message": "Copy removed"}


def _row(copy_id: str) -> dict[str, object]:
    copy = service.get_copy(copy_id)
    return copy_row(copy, service.names_of_stores()[copy.store_id])
