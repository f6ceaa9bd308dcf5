"""Dumps that were made elsewhere, in parts that can be resumed.

In the manner of https://datatracker.ietf.org/doc/draft-ietf-httpbis-resumable-upload/:
a part says by Upload-Offset where it begins, HEAD tells where to go on.
"""

import re
from collections.abc import Iterator

from flask import Blueprint, Response, jsonify, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import LengthRequired

from app.api.calls import Medium, Values, call, success
from app.api.schemas import NewUploadSchema, NothingSchema
from app.api.shapes import BACKUP, UPLOAD
from app.auth import signed_in_admin
from app.config import UPLOAD_PART
from app.errors import InvalidInput
from app.models import Trigger, Upload
from app.schemas.jobs import backup_row
from app.services.backups import uploads as service

blueprint = Blueprint("uploads", __name__, url_prefix="/uploads")

_BLOCK = 1024**2  # bytes


@blueprint.post("")
@call({201: success(upload=UPLOAD)}, body=NewUploadSchema, refusals=[409, 507])
def create(body: Values) -> ResponseReturnValue:
    """Announce a dump; its parts come next."""
    upload = service.begin_upload(
        body["name"], body["size"], notes=body["notes"], created_by=signed_in_admin().username
    )
    location = url_for(".show", upload_id=upload.id)
    return {"success": True, "upload": _row(upload, 0)}, 201, {"Location": location}


@blueprint.get("/<upload_id>")
@call({200: {"upload": UPLOAD}})
def show(upload_id: str) -> Response:
    """How far it has come."""
    upload, received = service.get_upload(upload_id)
    response = jsonify({"upload": _row(upload, received)})
    response.headers["Upload-Offset"] = str(received)
    return response


@blueprint.patch("/<upload_id>")
@call({204: None}, body=Medium("application/octet-stream"), refusals=[409, 411, 507])
def append(upload_id: str) -> ResponseReturnValue:
    """The next part, as the body."""
    request.max_content_length = UPLOAD_PART
    if request.content_length is None:
        raise LengthRequired("Say by Content-Length how long the part is.")
    offset = request.headers.get("Upload-Offset", "")
    if not re.fullmatch(r"[0-9]{1,18}", offset):
        raise InvalidInput(
            "Upload-Offset does not say where the part begins", hint="HEAD tells where to go on."
        )
    received = service.take_part(upload_id, int(offset), _blocks(request.content_length))
    return "", 204, {"Upload-Offset": str(received)}


@blueprint.post("/<upload_id>/import")
@call({202: success(backup=BACKUP, message=str)}, body=NothingSchema, refusals=[409, 507])
def finish(upload_id: str) -> ResponseReturnValue:
    """Make a backup of what has come whole."""
    backup = service.finish_upload(
        upload_id, trigger=Trigger.API, created_by=signed_in_admin().username
    )
    location = url_for("api.backups.show", filename=backup.filename)
    answer = {"success": True, "backup": backup_row(backup), "message": "Import started"}
    return answer, 202, {"Location": location}


@blueprint.delete("/<upload_id>")
@call({200: success(message=str)})
def delete(upload_id: str) -> ResponseReturnValue:
    """Forget it."""
    service.get_upload(upload_id)
    service.drop_upload(upload_id)
    return {"success": True, "message": "The upload has been deleted"}


def _blocks(length: int) -> Iterator[bytes]:
    # Not to the end of the stream: at its limit, that is told as too much.
    while length and (block := request.stream.read(min(length, _BLOCK))):
        length -= len(block)
        yield block


def _row(upload: Upload, received: int) -> dict[str, object]:
    return {
        "id": upload.id,
        "name": upload.name,
        "size": upload.size,
        "received": received,
        "partSize": UPLOAD_PART,
    }
