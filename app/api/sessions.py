"""Sign in and out with JSON, so that curl users can."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app import auth
from app.api.parsing import read_body
from app.api.schemas import CredentialsSchema

blueprint = Blueprint("sessions", __name__, url_prefix="/session")


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Sign in; the answer sets the session cookie."""
    credentials = read_body(CredentialsSchema())
    auth.sign_in(credentials["username"], credentials["password"])
    return {"success": True, "username": auth.signed_in_admin().username}


@blueprint.delete("")
def delete() -> ResponseReturnValue:
    """Sign out; the cookie is worth nothing from now on."""
    auth.sign_out()
    return {"success": True, "message": "Signed out"}
