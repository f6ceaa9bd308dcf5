"""Sign in and out with JSON, so that curl users can."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app import auth
from app.api.calls import Values, call, success
from app.api.schemas import CredentialsSchema

blueprint = Blueprint("sessions", __name__, url_prefix="/session")


@blueprint.post("")
@call({200: success(username=str)}, body=CredentialsSchema, refusals=[429])
def create(body: Values) -> ResponseReturnValue:
    """Sign in; the answer sets the session cookie."""
    auth.sign_in(body["username"], body["password"])
    return {"success": True, "username": auth.signed_in_admin().username}


@blueprint.delete("")
@call({200: success(message=str)})
def delete() -> ResponseReturnValue:
    """Sign out; the cookie is worth nothing from now on."""
    auth.sign_out()
    return {"success": True, "message": "Signed out"}
