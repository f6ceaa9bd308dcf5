"""One's own account: the password."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from app import auth
from app.admin.forms import PasswordChangeForm
from app.admin.passwords import error_text, refusal_of, refuse_field
from app.errors import InvalidInput, TooManyAttempts, WrongPassword
from app.services.access.passwords import MIN_LENGTH
from app.wording import _, _l

blueprint = Blueprint("account", __name__, url_prefix="/password")


@blueprint.get("")
def edit() -> ResponseReturnValue:
    """The form."""
    return _page(PasswordChangeForm())


@blueprint.post("")
def update() -> ResponseReturnValue:
    """Change it; other sessions end, this one goes on."""
    form = PasswordChangeForm()
    if form.new.data != form.again.data:
        refuse_field(form.again, _l("The two passwords differ."))
        return _page(form), 422
    try:
        auth.change_password(form.password.data or "", form.new.data or "")
    except (WrongPassword, TooManyAttempts) as error:
        refusal = refusal_of(error, form)
        return _page(form), *refusal
    except InvalidInput as error:
        form.new.errors = [error_text(error)]
        return _page(form), 422
    flash(_("The password has been changed. Your other sessions have ended."), "success")
    return redirect(url_for("admin.backups.index"))


def _page(form: PasswordChangeForm) -> str:
    return render_template("account/password.html", form=form, shortest=MIN_LENGTH)
