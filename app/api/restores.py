"""Drills and restores as JSON."""

from flask import Blueprint, jsonify, url_for
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call, success
from app.api.schemas import (
    ConfirmedSchema,
    NewRestoreSchema,
    NothingSchema,
    PreviewSchema,
    RestoreListSchema,
)
from app.api.shapes import RESTORE_DETAILS, RESTORE_PREVIEW
from app.auth import confirming, signed_in_admin
from app.config import CANCEL_PATIENCE
from app.errors import Conflict
from app.models import Kind, Restore, Trigger
from app.schemas.jobs import RestoreSchema, restore_details, restore_preview, restore_row
from app.services.restores import service
from app.services.restores.request import RestoreRequest, refuse_unconfirmed
from app.services.restores.source import get_source

blueprint = Blueprint("restores", __name__)


@blueprint.post("/backup/<filename>/drills")
@call(
    {202: success(restore=RestoreSchema, message=str)}, body=NothingSchema, refusals=[409, 502, 507]
)
def create_drill(filename: str) -> ResponseReturnValue:
    """Start a drill."""
    drill = RestoreRequest(
        get_source(filename), Kind.DRILL, Trigger.API, signed_in_admin().username
    )
    return _accepted(service.queue_restore(drill), "Restore drill started")


@blueprint.post("/backup/<filename>/restores")
@call(
    {202: success(restore=RestoreSchema, message=str)},
    body=NewRestoreSchema,
    refusals=[409, 429, 502, 507],
)
def create(filename: str, body: Values) -> ResponseReturnValue:
    """Start a restore into a new database, or over the live one."""
    source = get_source(filename, body["to"])
    if body["mode"] is not Kind.BESIDE:
        refuse_unconfirmed(source, body["confirm"])
    restore = RestoreRequest(
        source,
        body["mode"],
        Trigger.API,
        signed_in_admin().username,
        into=body["into"],
        tables=[(table["schema"], table["name"]) for table in body["tables"]],
        as_superuser=body["confirm_superuser"],
    )
    confirm = confirming(body["password"])
    return _accepted(service.queue_restore(restore, confirm=confirm), "Restore started")


@blueprint.get("/backup/<filename>/restores/preview")
@call({200: RESTORE_PREVIEW}, query=PreviewSchema, refusals=[409, 502, 507])
def preview(filename: str, query: Values) -> ResponseReturnValue:
    """What a restore would do, or what blocks it."""
    source = get_source(filename, query["to"])
    return jsonify(restore_preview(service.preview_restore(source, query["mode"], query["into"])))


@blueprint.get("/restores")
@call({200: {"restores": [RestoreSchema]}}, query=RestoreListSchema)
def index(query: Values) -> ResponseReturnValue:
    """The newest drills and restores."""
    restores = service.list_restores(filename=query["filename"], limit=query["limit"])
    return jsonify({"restores": [restore_row(restore) for restore in restores]})


@blueprint.get("/restores/<restore_id>")
@call({200: RESTORE_DETAILS})
def show(restore_id: str) -> ResponseReturnValue:
    """One of them, with its log."""
    return jsonify(restore_details(service.get_restore(restore_id)))


@blueprint.post("/restores/<restore_id>/cancel")
@call(
    {
        200: success(restore=RestoreSchema, message=str),
        202: success(restore=RestoreSchema, message=str),
    },
    body=NothingSchema,
    refusals=[409],
)
def cancel(restore_id: str) -> ResponseReturnValue:
    """Cancel one that is queued or running."""
    service.cancel_restore(restore_id, by=signed_in_admin().username)
    restore = service.wait_for_restore(restore_id, CANCEL_PATIENCE)
    if restore.is_completed:
        raise Conflict("this restore was completed before it could be cancelled")
    if restore.is_pending:
        return _accepted(restore, "Restore is being cancelled")
    return _answer(restore, "Restore has been cancelled")


@blueprint.post("/restores/<restore_id>/undo")
@call(
    {200: success(restore=RestoreSchema, message=str)},
    body=ConfirmedSchema,
    refusals=[409, 429, 502],
)
def undo(restore_id: str, body: Values) -> ResponseReturnValue:
    """Bring back the database that was replaced."""
    confirm = confirming(body["password"])
    aside = service.undo_restore(restore_id, by=signed_in_admin().username, confirm=confirm)
    restore = service.get_restore(restore_id)
    return _answer(
        restore, f"{restore.database} is the old database again; the restored one is {aside}"
    )


@blueprint.delete("/restores/<restore_id>/kept")
@call(
    {200: success(restore=RestoreSchema, message=str)},
    body=ConfirmedSchema,
    refusals=[409, 429, 502],
)
def drop_kept(restore_id: str, body: Values) -> ResponseReturnValue:
    """Drop the database that is kept."""
    confirm = confirming(body["password"])
    service.drop_kept(restore_id, by=signed_in_admin().username, confirm=confirm)
    restore = service.get_restore(restore_id)
    return _answer(restore, f"Database {restore.kept} has been dropped")


def _accepted(restore: Restore, message: str) -> ResponseReturnValue:
    location = url_for("api.restores.show", restore_id=restore.id)
    return _answer(restore, message), 202, {"Location": location}


def _answer(restore: Restore, message: str) -> dict[str, object]:
    return {"success": True, "restore": restore_row(restore), "message": message}
