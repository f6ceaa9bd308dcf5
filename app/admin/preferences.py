"""How an admin sees the pages: their time zone and language."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from wtforms import SelectField, StringField

from app import viewer
from app.admin.forms import Form
from app.admin.passwords import error_text, refuse_field
from app.auth import signed_in_admin
from app.errors import InvalidInput
from app.models.types import now
from app.services.access import admins
from app.viewer import checked_language
from app.wording import _, _l
from app.zones import list_zones


class PreferencesForm(Form):
    """How one sees the pages."""

    time_zone = StringField(
        _l("Time zone"), render_kw={"autocomplete": "off", "spellcheck": "false", "required": True}
    )
    language = SelectField(_l("Language"), validate_choice=False)


blueprint = Blueprint("preferences", __name__, url_prefix="/account")


@blueprint.get("")
def edit() -> ResponseReturnValue:
    """The form."""
    admin = signed_in_admin()
    return _page(PreferencesForm(time_zone=admin.time_zone, language=admin.language))


@blueprint.post("")
def update() -> ResponseReturnValue:
    """Change them."""
    form = PreferencesForm()
    try:
        edited = admins.edit_admin(
            signed_in_admin().username,
            time_zone=form.time_zone.data or "",
            language=checked_language(form.language.data or ""),
        )
    except InvalidInput as error:
        refuse_field(form.time_zone, error_text(error))
        return _page(form), 422
    viewer.show_to(edited)  # so that the message is in the new language
    flash(_("Your preferences have been saved."), "success")
    return redirect(url_for(".edit"))


def _page(form: PreferencesForm) -> str:
    return render_template(
        "account/preferences.html",
        form=form,
        zones=list_zones(),
        languages=viewer.LANGUAGES,
        moment_now=now(),
    )
