"""One's own account as JSON: how one sees the pages."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call, success
from app.api.schemas import PreferencesSchema
from app.api.shapes import ACCOUNT
from app.auth import signed_in_admin
from app.schemas.accounts import AccountSchema
from app.schemas.base import row_of
from app.services.access import admins

blueprint = Blueprint("preferences", __name__, url_prefix="/account")


@blueprint.get("")
@call({200: {"account": ACCOUNT}})
def show() -> ResponseReturnValue:
    """Whose session this is, and how they see the pages."""
    return jsonify({"account": row_of(AccountSchema(), signed_in_admin())})


@blueprint.patch("")
@call({200: success(account=ACCOUNT)}, body=PreferencesSchema)
def update(body: Values) -> ResponseReturnValue:
    """Change it; times in the API stay in UTC."""
    edited = admins.edit_admin(signed_in_admin().username, **body)
    return jsonify({"success": True, "account": row_of(AccountSchema(), edited)})
