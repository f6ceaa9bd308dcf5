"""Backups as JSON."""

import re
import threading

from flask import Blueprint, Response, jsonify, request, url_for
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call, success
from app.api.schemas import ListSchema, NewBackupSchema, NotesSchema, NothingSchema, PinSchema
from app.api.shapes import BACKUP, BACKUP_DETAILS, BACKUP_IN_LIST, DUMP
from app.auth import signed_in_admin
from app.config import CANCEL_PATIENCE, WEB_THREADS, settings
from app.downloads import backup_response
from app.errors import AppError, Conflict
from app.models import DatabaseBackup, Status, Trigger
from app.problems import problem
from app.schemas.jobs import backup_details, backup_row, backups_in_list
from app.services.backups import listing, pins, service
from app.services.backups.filters import read_filters
from app.services.databases.lookup import choose_database

blueprint = Blueprint("backups", __name__, url_prefix="/backup")

# At most half of the threads wait for backups; later requests get 202 at once.
_waiting_places = threading.BoundedSemaphore(WEB_THREADS // 2)


@blueprint.post("")
@call(
    {201: success(backup=BACKUP, message=str), 202: success(backup=BACKUP, message=str)},
    body=NewBackupSchema,
    refusals=[409, 502],
)
def create(body: Values) -> ResponseReturnValue:
    """Start a backup and wait for it as long as the client prefers."""
    patience = _patience()
    backup = service.queue_backup(
        choose_database(body["database"]),
        trigger=Trigger.API,
        created_by=signed_in_admin().username,
        notes=body["notes"],
    )
    if patience > 0 and _waiting_places.acquire(blocking=False):
        try:
            backup = service.wait_for_backup(backup.id, patience)
        finally:
            _waiting_places.release()
    return _created(backup)


@blueprint.get("")
@call({200: {"backups": [BACKUP_IN_LIST], "nextBefore": (str, None)}}, query=ListSchema)
def index(query: Values) -> ResponseReturnValue:
    """Backups that pass the filters, newest first unless asked otherwise."""
    filters, order = read_filters(query)
    page = listing.list_backups(filters, limit=query["limit"], before=query["before"], order=order)
    return jsonify({"backups": backups_in_list(page.backups), "nextBefore": page.next_before})


@blueprint.get("/<filename>")
@call({200: DUMP, 206: DUMP, 304: None}, refusals=[409, 416, 502, 503])
def download(filename: str) -> Response:
    """The dump, or a range of it."""
    return backup_response(filename)


@blueprint.get("/<filename>/details")
@call({200: BACKUP_DETAILS})
def show(filename: str) -> ResponseReturnValue:
    """Everything known of a backup."""
    return jsonify(backup_details(listing.get_backup(filename)))


@blueprint.post("/<filename>/cancel")
@call(
    {200: success(backup=BACKUP, message=str), 202: success(backup=BACKUP, message=str)},
    body=NothingSchema,
    refusals=[409],
)
def cancel(filename: str) -> ResponseReturnValue:
    """Cancel a pending backup."""
    service.cancel_backup(filename, by=signed_in_admin().username)
    backup = service.wait_for_backup(listing.get_backup(filename).id, CANCEL_PATIENCE)
    if backup.is_completed:
        raise Conflict(f"{filename} was completed before it could be cancelled")
    message = (
        f"Database backup {filename} {'is being' if backup.is_pending else 'has been'} cancelled"
    )
    answer = {"success": True, "backup": backup_row(backup), "message": message}
    if backup.is_pending:
        return answer, 202, {"Location": url_for(".show", filename=filename)}
    return answer


@blueprint.patch("/<filename>")
@call({200: success(backup=BACKUP)}, body=NotesSchema, refusals=[502, 507])
def update(filename: str, body: Values) -> ResponseReturnValue:
    """Change the notes."""
    backup = service.edit_notes(filename, body["notes"])
    return {"success": True, "backup": backup_row(backup)}


@blueprint.post("/<filename>/pin")
@call({200: success(backup=BACKUP)}, body=PinSchema, refusals=[409, 502, 507])
def pin(filename: str, body: Values) -> ResponseReturnValue:
    """Pin a backup."""
    reason = body["reason"]
    backup = pins.pin_backup(filename, reason, by=signed_in_admin().username)
    return {"success": True, "backup": backup_row(backup)}


@blueprint.delete("/<filename>/pin")
@call({200: success(backup=BACKUP)}, body=NothingSchema, refusals=[502, 507])
def unpin(filename: str) -> ResponseReturnValue:
    """Unpin a backup."""
    backup = pins.unpin_backup(filename, by=signed_in_admin().username)
    return {"success": True, "backup": backup_row(backup)}


@blueprint.delete("/<filename>")
@call({200: success(message=str)}, body=NothingSchema, refusals=[409, 502])
def delete(filename: str) -> ResponseReturnValue:
    """Delete a backup with its dump."""
    service.delete_backup(filename)
    return {"success": True, "message": f"Database backup {filename} deleted"}


def _patience() -> float:
    """How long the client prefers to wait, in seconds (RFC 7240)."""
    preferences: dict[str, str] = {}
    for preference in ",".join(request.headers.getlist("Prefer")).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        preferences.setdefault(name.strip().lower(), value.strip().strip('"'))  # the first counts
    if "respond-async" in preferences:
        return 0
    wait = preferences.get("wait", "")
    longest = settings().api_wait
    return min(int(wait), longest) if re.fullmatch(r"[0-9]{1,9}", wait) else longest


def _created(backup: DatabaseBackup) -> Response:
    location = url_for("api.backups.show", filename=backup.filename)
    if backup.status is Status.FAILED:
        failure = AppError(backup.error_message, detail=backup.error_detail, hint=backup.error_hint)
        response = problem(failure, 502, backup=backup_row(backup))
    else:
        message = (
            "Database backup created successfully"
            if backup.is_completed
            else "Database backup started"
        )
        response = jsonify({"success": True, "backup": backup_row(backup), "message": message})
        response.status_code = 201 if backup.is_completed else 202
    response.headers["Location"] = location
    return response
