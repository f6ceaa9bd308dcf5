"""Assertions: the list with the form that adds one, and the form that changes one."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from app.admin.choice import chosen_database
from app.admin.forms import AssertionForm
from app.auth import signed_in_admin
from app.errors import AppError, Conflict, InvalidInput
from app.problems import status_of
from app.services.proofs import assertions as service
from app.wording import _

blueprint = Blueprint("assertions", __name__, url_prefix="/assertions")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """All of them, and the form."""
    return _list(AssertionForm())


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Add one."""
    form = AssertionForm()
    try:
        added = service.add_assertion(
            form.name.data or "",
            form.statement.data or "",
            of=chosen_database(),
            created_by=signed_in_admin().username,
        )
    except (InvalidInput, Conflict) as error:
        return _list(form, error), status_of(error)
    flash(
        _("Assertion %(name)s has been added; it runs in the next drill.", name=added.name),
        "success",
    )
    return redirect(url_for(".index"))


@blueprint.get("/<assertion_id>")
def show(assertion_id: str) -> ResponseReturnValue:
    """One, to change or to delete."""
    return _page(assertion_id, AssertionForm(obj=service.get_assertion(assertion_id)))


@blueprint.post("/<assertion_id>")
def update(assertion_id: str) -> ResponseReturnValue:
    """Change it."""
    form = AssertionForm()
    try:
        edited = service.edit_assertion(
            assertion_id,
            name=form.name.data or "",
            statement=form.statement.data or "",
            by=signed_in_admin().username,
        )
    except (InvalidInput, Conflict) as error:
        return _page(assertion_id, form, error), status_of(error)
    flash(_("Assertion %(name)s has been saved.", name=edited.name), "success")
    return redirect(url_for(".index"))


@blueprint.post("/<assertion_id>/delete")
def delete(assertion_id: str) -> ResponseReturnValue:
    """Delete it."""
    name = service.get_assertion(assertion_id).name
    service.remove_assertion(assertion_id, by=signed_in_admin().username)
    flash(_("Assertion %(name)s has been deleted.", name=name), "success")
    return redirect(url_for(".index"))


def _list(form: AssertionForm, error: AppError | None = None) -> str:
    database = chosen_database()
    return render_template(
        "assertions/index.html",
        assertions=service.list_assertions(database),
        database=database,
        form=form,
        error=error,
    )


def _page(assertion_id: str, form: AssertionForm, error: AppError | None = None) -> str:
    return render_template(
        "assertions/show.html",
        assertion=service.get_assertion(assertion_id),
        form=form,
        error=error,
    )
