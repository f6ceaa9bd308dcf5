"""Drills and restores as JSON."""

from flask import Blueprint, jsonify, url_for
from flask.typing import ResponseReturnValue

from app.api.parsing import read_body, read_query
from app.api.schemas import (
    ConfirmedSchema,
    NewRestoreSchema,
    NothingSchema,
    PreviewSchema,
    RestoreListSchema,
)
from app.auth import confirming, signed_in_admin
from app.config import CANCEL_PATIENCE
from app.errors import Conflict
from app.models import Kind, Restore, Trigger
from app.schemas.jobs import restore_details, restore_preview, restore_row
from app.services.restores import service

blueprint = Blueprint("restores", __name__)


@blueprint.post("/backup/<filename>/drills")
def create_drill(filename: str) -> ResponseReturnValue:
    """Ask for a drill."""
    read_body(NothingSchema())
    drill = service.queue_restore(
        filename, Kind.DRILL, trigger=Trigger.API, created_by=signed_in_admin().username
    )
    return _accepted(drill, "Restore drill started")


@blueprint.post("/backup/<filename>/restores")
def create(filename: str) -> ResponseReturnValue:
    """Ask for a restore, beside or in place of the living database."""
    body = read_body(NewRestoreSchema())
    if body["mode"] is not Kind.BESIDE:
        service.refuse_unconfirmed(filename, body["confirm"])
    restore = service.queue_restore(
        filename,
        body["mode"],
        trigger=Trigger.API,
        created_by=signed_in_admin().username,
        into=body["into"],
        as_superuser=body["confirm_superuser"],
        tables=[(each["schema"], each["name"]) for each in body["tables"]],
        confirm=confirming(body["password"]),
    )
    return _accepted(restore, "Restore started")


@blueprint.get("/backup/<filename>/restores/preview")
def preview(filename: str) -> ResponseReturnValue:
    """What a restore would do, or why it cannot."""
    query = read_query(PreviewSchema())
    return jsonify(restore_preview(service.tell_before(filename, query["mode"], query["into"])))


@blueprint.get("/restores")
def index() -> ResponseReturnValue:
    """The newest drills and restores."""
    query = read_query(RestoreListSchema())
    found = service.list_restores(filename=query["filename"], limit=query["limit"])
    return jsonify({"restores": [restore_row(each) for each in found]})


@blueprint.get("/restores/<restore_id>")
def show(restore_id: str) -> ResponseReturnValue:
    """Everything known of one."""
    return jsonify(restore_details(service.get_restore(restore_id)))


@blueprint.post("/restores/<restore_id>/cancel")
def cancel(restore_id: str) -> ResponseReturnValue:
    """End one that waits or runs."""
    read_body(NothingSchema())
    service.cancel_restore(restore_id, by=signed_in_admin().username)
    restore = service.wait_for_restore(restore_id, CANCEL_PATIENCE)
    if restore.is_completed:
        raise Conflict("this restore was completed before it could be cancelled")
    if restore.is_pending:
        return _accepted(restore, "Restore is being cancelled")
    return _told(restore, "Restore has been cancelled")


@blueprint.post("/restores/<restore_id>/undo")
def undo(restore_id: str) -> ResponseReturnValue:
    """Bring back the database that was replaced."""
    confirm = confirming(read_body(ConfirmedSchema())["password"])
    aside = service.undo_restore(restore_id, by=signed_in_admin().username, confirm=confirm)
    restore = service.get_restore(restore_id)
    return _told(restore, f"{restore.database} is what it was before; the other one is {aside}")


@blueprint.delete("/restores/<restore_id>/kept")
def drop_kept(restore_id: str) -> ResponseReturnValue:
    """Drop the database that is kept."""
    confirm = confirming(read_body(ConfirmedSchema())["password"])
    service.drop_kept(restore_id, by=signed_in_admin().username, confirm=confirm)
    restore = service.get_restore(restore_id)
    return _told(restore, f"Database {restore.kept} has been dropped")


def _accepted(restore: Restore, message: str) -> ResponseReturnValue:
    location = url_for("api.restores.show", restore_id=restore.id)
    return _told(restore, message), 202, {"Location": location}


def _told(restore: Restore, message: str) -> dict[str, object]:
    return {"success": True, "restore": restore_row(restore), "message": message}
