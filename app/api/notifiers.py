"""Notifiers as JSON, and what was sent."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.parsing import read_body, read_query
from app.api.schemas import LimitSchema, NewNotifierSchema, NothingSchema, NotifierChangeSchema
from app.auth import signed_in_admin
from app.models.types import now
from app.schemas.alerts import delivery_row, notifier_row
from app.services.alerts import deliveries
from app.services.alerts import notifiers as service

blueprint = Blueprint("notifiers", __name__)


@blueprint.get("/notifiers")
def index() -> ResponseReturnValue:
    """All of them, by name."""
    return jsonify({"notifiers": [notifier_row(notifier) for notifier in service.list_notifiers()]})


@blueprint.post("/notifiers")
def create() -> ResponseReturnValue:
    """Make one."""
    created = service.create_notifier(
        **read_body(NewNotifierSchema()), created_by=signed_in_admin().username
    )
    told = f"Notifier {created.name} created"
    return {"success": True, "notifier": notifier_row(created), "message": told}, 201


@blueprint.patch("/notifiers/<notifier_id>")
def update(notifier_id: str) -> ResponseReturnValue:
    """Change what is given."""
    edited = service.edit_notifier(
        notifier_id, **read_body(NotifierChangeSchema()), by=signed_in_admin().username
    )
    return {"success": True, "notifier": notifier_row(edited)}


@blueprint.delete("/notifiers/<notifier_id>")
def delete(notifier_id: str) -> ResponseReturnValue:
    """Delete it."""
    read_body(NothingSchema())
    service.remove_notifier(notifier_id, by=signed_in_admin().username)
    return {"success": True, "message": "Notifier deleted"}


@blueprint.post("/notifiers/<notifier_id>/test")
def test(notifier_id: str) -> ResponseReturnValue:
    """Send a message now, and say what came of it."""
    read_body(NothingSchema())
    service.send_test(notifier_id, now(), by=signed_in_admin().username)
    return {"success": True, "message": "Test message sent"}


@blueprint.get("/deliveries")
def list_deliveries() -> ResponseReturnValue:
    """What was sent and what waits, newest first."""
    found = deliveries.list_deliveries(**read_query(LimitSchema()))
    return jsonify({"deliveries": [delivery_row(*row) for row in found]})
