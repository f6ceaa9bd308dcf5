"""How an admin sees the pages: their time zone."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from app.admin.forms import PreferencesForm
from app.admin.passwords import error_text, refuse_field
from app.auth import signed_in_admin
from app.errors import InvalidInput
from app.models.types import now
from app.services.access import admins
from app.wording import _
from app.zones import list_zones

blueprint = Blueprint("preferences", __name__, url_prefix="/account")


@blueprint.get("")
def edit() -> ResponseReturnValue:
    """The form."""
    return _page(PreferencesForm(time_zone=signed_in_admin().time_zone))


@blueprint.post("")
def update() -> ResponseReturnValue:
    """Change them."""
    form = PreferencesForm()
    try:
        admins.edit_admin(signed_in_admin().username, time_zone=form.time_zone.data or "")
    except InvalidInput as error:
        refuse_field(form.time_zone, error_text(error))
        return _page(form), 422
    flash(_("Your preferences have been saved."), "success")
    return redirect(url_for(".edit"))


def _page(form: PreferencesForm) -> str:
    return render_template(
        "account/preferences.html", form=form, zones=list_zones(), moment_now=now()
    )
