"""Sign in and out."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import auth
from app.admin.forms import SignInForm
from app.errors import NotSignedIn, TooManyAttempts
from app.wording import _

blueprint = Blueprint("sessions", __name__)


@blueprint.get("/login")
def new() -> ResponseReturnValue:
    """The sign-in page."""
    return render_template("sessions/new.html", form=SignInForm())


@blueprint.post("/login")
def create() -> ResponseReturnValue:
    """Sign in and go where the admin was going."""
    form = SignInForm()
    if not form.validate_on_submit():
        return render_template("sessions/new.html", form=form), 422
    try:
        auth.sign_in(form.username.data or "", form.password.data or "")
    except NotSignedIn as error:
        return render_template("sessions/new.html", form=form, error=error), 401
    except TooManyAttempts as error:
        page = render_template("sessions/new.html", form=form, error=error)
        return page, 429, {"Retry-After": str(error.retry_after)}
    return redirect(auth.own_path(request.args.get("next")) or url_for("admin.overview.index"))


@blueprint.post("/logout")
def delete() -> ResponseReturnValue:
    """Sign out here."""
    auth.sign_out()
    flash(_("Signed out."), "success")
    return redirect(url_for("admin.sessions.new"))


@blueprint.post("/logout/everywhere")
def delete_all() -> ResponseReturnValue:
    """Sign out in every browser and script."""
    auth.sign_out_everywhere()
    flash(_("Signed out everywhere."), "success")
    return redirect(url_for("admin.sessions.new"))
