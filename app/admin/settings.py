"""What admins change at run time: where, and all of it as one file."""

from flask import Blueprint, Response, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from app.admin.forms import SettingsForm
from app.auth import signed_in_admin
from app.errors import AppError, Conflict, InvalidInput
from app.services.settings_file import document as service
from app.wording import ngettext

blueprint = Blueprint("settings", __name__, url_prefix="/settings")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """What there is, and the form that takes a file's text."""
    return _page(SettingsForm(text=service.as_text(service.export_settings())))


@blueprint.get("/export")
def export() -> ResponseReturnValue:
    """All of it as a file, without secrets."""
    response = Response(service.as_text(service.export_settings()), mimetype="application/toml")
    response.headers["Content-Disposition"] = 'attachment; filename="backstop.toml"'
    return response


@blueprint.post("")
def update() -> ResponseReturnValue:
    """Tell what a text would change, or keep it."""
    form = SettingsForm()
    is_dry = not form.keep.data
    try:
        changes = service.import_settings(
            service.from_text(form.text.data or ""),
            by=signed_in_admin().username,
            exact=form.exact.data,
            dry_run=is_dry,
        )
    except (InvalidInput, Conflict) as error:
        return _page(form, error=error), 409 if isinstance(error, Conflict) else 422
    if is_dry:
        return _page(form, changes=changes)
    number = len(changes)
    flash(
        ngettext(
            "%(num)s setting has been changed.", "%(num)s settings have been changed.", number
        ),
        "success",
    )
    return redirect(url_for(".index"))


def _page(
    form: SettingsForm, *, changes: list[str] | None = None, error: AppError | None = None
) -> str:
    return render_template(
        "settings/index.html",
        document=service.export_settings(),
        form=form,
        changes=changes,
        error=error,
    )
