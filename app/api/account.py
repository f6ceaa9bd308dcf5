"""One's own account as JSON: the password."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app import auth
from app.api.parsing import read_body
from app.api.schemas import PasswordChangeSchema

blueprint = Blueprint("account", __name__, url_prefix="/password")


@blueprint.put("")
def update() -> ResponseReturnValue:
    """Change it; other sessions end, this one goes on."""
    body = read_body(PasswordChangeSchema())
    auth.change_password(body["password"], body["new_password"])
    return {"success": True, "message": "Password changed; your other sessions have ended"}
