"""Notifiers: the list with the form that adds one, the form that changes one, and a test."""

from typing import Any

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from app.admin.forms import NotifierForm
from app.admin.passwords import error_text
from app.auth import signed_in_admin
from app.errors import AppError, Busy, Conflict, InvalidInput, NotifierError
from app.formatting import sentence_text
from app.models import GOOD_NEWS, Fact
from app.models.types import now
from app.problems import status_of
from app.services.alerts import deliveries
from app.services.alerts import notifiers as service
from app.wording import _, said

blueprint = Blueprint("notifiers", __name__, url_prefix="/notifiers")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """All of them, what was sent, and the form."""
    return _list(NotifierForm(enabled=True))


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Make one."""
    form = NotifierForm()
    by = signed_in_admin().username
    try:
        created = service.create_notifier(
            url=form.url.data or "", created_by=by, **_values_of(form)
        )
    except (InvalidInput, Conflict, NotifierError, Busy) as error:
        return _list(form, error), status_of(error)
    flash(
        _("Notifier %(name)s has been created. Send a test message to it.", name=created.name),
        "success",
    )
    return redirect(url_for(".show", notifier_id=created.id))


@blueprint.get("/<notifier_id>")
def show(notifier_id: str) -> ResponseReturnValue:
    """One, to test, to change or to delete."""
    notifier = service.get_notifier(notifier_id)
    form = NotifierForm(obj=notifier, every_alarm=notifier.facts is None)
    form.url.data = ""  # it is never shown again
    return _page(notifier_id, form)


@blueprint.post("/<notifier_id>")
def update(notifier_id: str) -> ResponseReturnValue:
    """Change it; an empty URL stays as it is."""
    form = NotifierForm()
    changes = _values_of(form) | ({"url": form.url.data} if form.url.data else {})
    try:
        edited = service.edit_notifier(notifier_id, by=signed_in_admin().username, **changes)
    except (InvalidInput, Conflict, NotifierError, Busy) as error:
        return _page(notifier_id, form, error), status_of(error)
    flash(_("Notifier %(name)s has been saved.", name=edited.name), "success")
    return redirect(url_for(".index"))


@blueprint.post("/<notifier_id>/test")
def test(notifier_id: str) -> ResponseReturnValue:
    """Send a message now, and show what came of it."""
    try:
        service.send_test(notifier_id, now(), by=signed_in_admin().username)
    except NotifierError as error:
        flash(f"{sentence_text(said(error.message))}: {said(error.detail)}", "danger")
    except Conflict as error:
        flash(error_text(error), "danger")
    else:
        flash(_("The test message was accepted. Check whether it has arrived."), "success")
    return redirect(url_for(".show", notifier_id=notifier_id))


@blueprint.post("/<notifier_id>/delete")
def delete(notifier_id: str) -> ResponseReturnValue:
    """Delete it."""
    name = service.get_notifier(notifier_id).name
    service.remove_notifier(notifier_id, by=signed_in_admin().username)
    flash(_("Notifier %(name)s has been deleted.", name=name), "success")
    return redirect(url_for(".index"))


def _values_of(form: NotifierForm) -> dict[str, Any]:
    return {
        "name": form.name.data or "",
        "facts": _facts_of(form),
        "title": form.title.data or "",
        "body": form.body.data or "",
        "enabled": form.enabled.data,
    }


def _facts_of(form: NotifierForm) -> list[str] | None:
    """What is chosen; with every alarm, good news can be chosen beside it."""
    chosen: list[str] = form.facts.data or []
    if not form.every_alarm.data:
        return chosen
    news = [fact.value for fact in GOOD_NEWS if fact.value in chosen]
    return [*news, *(fact.value for fact in Fact if fact not in GOOD_NEWS)] if news else None


def _list(form: NotifierForm, error: AppError | None = None) -> str:
    return render_template(
        "notifiers/index.html",
        notifiers=service.list_notifiers(),
        sent=deliveries.list_deliveries(),
        **_common(form, error),
    )


def _page(notifier_id: str, form: NotifierForm, error: AppError | None = None) -> str:
    notifier = service.get_notifier(notifier_id)
    return render_template("notifiers/show.html", notifier=notifier, **_common(form, error))


def _common(form: NotifierForm, error: AppError | None) -> dict[str, Any]:
    return {
        "form": form,
        "error": error,
        "facts": [(fact.value, fact in GOOD_NEWS) for fact in Fact],
        "placeholders": service.PLACEHOLDERS,
    }
