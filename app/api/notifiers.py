"""Notifiers as JSON, and what was sent."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call, success
from app.api.schemas import LimitSchema, NewNotifierSchema, NothingSchema, NotifierChangeSchema
from app.api.shapes import DELIVERY
from app.auth import signed_in_admin
from app.models.types import now
from app.schemas.alerts import NotifierSchema, delivery_row, notifier_row
from app.services.alerts import deliveries
from app.services.alerts import notifiers as service

blueprint = Blueprint("notifiers", __name__)


@blueprint.get("/notifiers")
@call({200: {"notifiers": [NotifierSchema]}})
def index() -> ResponseReturnValue:
    """All of them, by name."""
    return jsonify({"notifiers": [notifier_row(notifier) for notifier in service.list_notifiers()]})


@blueprint.post("/notifiers")
@call({201: success(notifier=NotifierSchema, message=str)}, body=NewNotifierSchema, refusals=[409])
def create(body: Values) -> ResponseReturnValue:
    """Make one."""
    created = service.create_notifier(**body, created_by=signed_in_admin().username)
    message = f"Notifier {created.name} created"
    return {"success": True, "notifier": notifier_row(created), "message": message}, 201


@blueprint.patch("/notifiers/<notifier_id>")
@call({200: success(notifier=NotifierSchema)}, body=NotifierChangeSchema, refusals=[409])
def update(notifier_id: str, body: Values) -> ResponseReturnValue:
    """Change what is given."""
    edited = service.edit_notifier(notifier_id, **body, by=signed_in_admin().username)
    return {"success": True, "notifier": notifier_row(edited)}


@blueprint.delete("/notifiers/<notifier_id>")
@call({200: success(message=str)}, body=NothingSchema)
def delete(notifier_id: str) -> ResponseReturnValue:
    """Delete it."""
    service.remove_notifier(notifier_id, by=signed_in_admin().username)
    return {"success": True, "message": "Notifier deleted"}


@blueprint.post("/notifiers/<notifier_id>/test")
@call({200: success(message=str)}, body=NothingSchema, refusals=[409, 502])
def test(notifier_id: str) -> ResponseReturnValue:
    """Send a message now, and say what came of it."""
    service.send_test(notifier_id, now(), by=signed_in_admin().username)
    return {"success": True, "message": "Test message sent"}


@blueprint.get("/deliveries")
@call({200: {"deliveries": [DELIVERY]}}, query=LimitSchema)
def list_deliveries(query: Values) -> ResponseReturnValue:
    """What was sent and what waits, newest first."""
    rows = deliveries.list_deliveries(**query)
    return jsonify({"deliveries": [delivery_row(*row) for row in rows]})
