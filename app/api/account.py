"""One's own account as JSON: the password."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app import auth
from app.api.calls import Values, call, success
from app.api.schemas import PasswordChangeSchema

blueprint = Blueprint("account", __name__, url_prefix="/password")


@blueprint.put("")
@call({200: success(message=str)}, body=PasswordChangeSchema, refusals=[429])
def update(body: Values) -> ResponseReturnValue:
    """Change it; other sessions end, this one goes on."""
    auth.change_password(body["password"], body["new_password"])
    return {"success": True, "message": "Password changed; your other sessions have ended"}
