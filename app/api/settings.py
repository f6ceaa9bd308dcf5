"""What admins change at run time, as one document."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call, success
from app.api.schemas import SettingsSchema
from app.auth import signed_in_admin
from app.services.settings_file import document as service

blueprint = Blueprint("settings", __name__, url_prefix="/settings")


@blueprint.get("")
@call({200: {"settings": dict}})
def show() -> ResponseReturnValue:
    """All of it, without secrets."""
    return jsonify({"settings": service.export_settings()})


@blueprint.patch("")
@call({200: success(changes=[str], dryRun=bool)}, body=SettingsSchema, refusals=[409])
def update(body: Values) -> ResponseReturnValue:
    """Keep what a document says: all of it, or nothing."""
    changes = service.import_settings(
        body["settings"],
        by=signed_in_admin().username,
        exact=body["exact"],
        dry_run=body["dry_run"],
    )
    return {"success": True, "changes": changes, "dryRun": body["dry_run"]}
