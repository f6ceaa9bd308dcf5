"""What admins change at run time, as one document."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.parsing import read_body
from app.api.schemas import SettingsSchema
from app.auth import signed_in_admin
from app.services.settings_file import document as service

blueprint = Blueprint("settings", __name__, url_prefix="/settings")


@blueprint.get("")
def show() -> ResponseReturnValue:
    """All of it, without secrets."""
    return jsonify({"settings": service.export_settings()})


@blueprint.patch("")
def update() -> ResponseReturnValue:
    """Keep what a document says: all of it, or nothing."""
    asked = read_body(SettingsSchema())
    changes = service.import_settings(
        asked["settings"],
        by=signed_in_admin().username,
        exact=asked["exact"],
        dry_run=asked["dry_run"],
    )
    return {"success": True, "changes": changes, "dryRun": asked["dry_run"]}
