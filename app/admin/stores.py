"""Stores: the list, the form that adds one, and the page of each."""

from collections.abc import Callable, Sequence

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from app.admin.passwords import error_text
from app.admin.store_form import StoreForm
from app.auth import signed_in_admin
from app.errors import AppError, Busy, Conflict, InvalidInput, NotFound, StorageError
from app.formatting import copies_text, rate_text
from app.models import Store
from app.problems import status_of
from app.readers import off_or, rate
from app.services.copies.service import list_copies
from app.services.databases.lookup import list_databases
from app.services.stores import lookup, service, store_test
from app.services.stores.credentials import parse_credentials
from app.services.stores.keys import forget_drill_key, make_drill_key, make_recovery_key
from app.steps import Step
from app.wording import _

blueprint = Blueprint("stores", __name__, url_prefix="/stores")

Steps = Sequence[Step]

_REFUSALS = (InvalidInput, NotFound, Conflict, StorageError, Busy)


@blueprint.get("")
def index() -> ResponseReturnValue:
    """All stores at a glance."""
    return render_template("stores/index.html", rows=lookup.list_rows())


@blueprint.get("/new")
def new() -> ResponseReturnValue:
    """The form."""
    return _new(StoreForm())


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Copy to another store."""
    form, by = StoreForm(), signed_in_admin().username
    try:
        changes, url = _changes_of(form), form.url.data or ""
        store = service.add_store(form.name.data or "", url, changes, asking=_asking(form), by=by)
    except _REFUSALS as error:
        return _new(form, error), status_of(error)
    flash(
        _("%(name)s has been added. Test it, and make a recovery key.", name=store.name), "success"
    )
    return redirect(url_for(".show", name=store.name))


@blueprint.post("/-/test")  # no name begins like that
def test_new() -> ResponseReturnValue:
    """Test the store of the form that adds one; nothing is saved."""
    form = StoreForm()
    try:
        steps = store_test.check_url(form.url.data or "", _changes_of(form))
    except _REFUSALS as error:
        return _new(form, error), status_of(error)
    return _new(form, steps=steps)


@blueprint.get("/<name>")
def show(name: str) -> ResponseReturnValue:
    """One store, and the form that changes it."""
    row = lookup.get_row(name)
    return _page(row, _form_of(row.store))


@blueprint.post("/<name>")
def update(name: str) -> ResponseReturnValue:
    """Change it; empty credentials stay as they are."""
    row, form, by = lookup.get_row(name), StoreForm(), signed_in_admin().username
    try:
        changes = _changes_of(form, name=form.name.data or "", url=form.url.data or None)
        edited = service.edit_store(name, changes, asking=_asking(form), by=by)
    except _REFUSALS as error:
        return _page(row, form, error), status_of(error)
    flash(_("%(name)s has been saved.", name=edited.name), "success")
    return redirect(url_for(".show", name=edited.name))


@blueprint.post("/<name>/test")
def test(name: str) -> ResponseReturnValue:
    """Test it."""
    row = lookup.get_row(name)
    return _page(row, _form_of(row.store), steps=store_test.check_saved(name))


@blueprint.post("/<name>/pause")
def pause(name: str) -> ResponseReturnValue:
    """Copy nothing more to it."""
    service.pause_store(name, by=signed_in_admin().username)
    flash(_("%(name)s is paused: nothing is copied to it.", name=name), "success")
    return redirect(url_for(".show", name=name))


@blueprint.post("/<name>/resume")
def resume(name: str) -> ResponseReturnValue:
    """Copy to it again."""
    service.resume_store(name, by=signed_in_admin().username)
    flash(_("%(name)s is active: backups are copied to it.", name=name), "success")
    return redirect(url_for(".show", name=name))


@blueprint.post("/<name>/recovery-key")
def recovery_key(name: str) -> ResponseReturnValue:
    """Make a key and show it, only this once, on a page to print."""
    try:
        identity = make_recovery_key(name, by=signed_in_admin().username)
    except InvalidInput as error:
        flash(error_text(error), "danger")
        return redirect(url_for(".show", name=name))
    return render_template(
        "stores/recovery_key.html", store=lookup.get_store(name), identity=identity
    )


@blueprint.post("/<name>/drill-key")
def drill_key(name: str) -> ResponseReturnValue:
    """Make a key with which the panel reads later copies."""
    return _changed(name, make_drill_key, _("The panel can read later copies."))


@blueprint.post("/<name>/drill-key/forget")
def forget_key(name: str) -> ResponseReturnValue:
    """Forget it."""
    return _changed(name, forget_drill_key, _("The panel reads no later copy."))


@blueprint.get("/<name>/delete")
def confirm_delete(name: str) -> ResponseReturnValue:
    """Ask whether it shall be forgotten."""
    return render_template("stores/delete.html", row=lookup.get_row(name))


@blueprint.post("/<name>/delete")
def delete(name: str) -> ResponseReturnValue:
    """Forget it; its objects stay."""
    address = lookup.get_store(name).address
    try:
        left = service.remove_store(name, by=signed_in_admin().username)
    except Conflict as error:
        flash(error_text(error), "danger")
        return redirect(url_for(".show", name=name))
    flash(
        _(
            "%(name)s has been removed. %(copies)s stay at %(address)s.",
            name=name,
            copies=copies_text(left),
            address=address,
        ),
        "success",
    )
    return redirect(url_for(".index"))


def _changed(name: str, act: Callable[..., Store], message: str) -> ResponseReturnValue:
    """Do it to a store; a refusal comes back to its page."""
    try:
        act(name, by=signed_in_admin().username)
        flash(message, "success")
    except _REFUSALS as error:
        flash(error_text(error), "danger")
    return redirect(url_for(".show", name=name))


def _changes_of(
    form: StoreForm, *, name: str | None = None, url: str | None = None
) -> service.Changes:
    """Raises InvalidInput."""
    databases = () if form.all_databases.data else tuple(form.databases.data or ())
    if not (databases or form.all_databases.data):
        raise InvalidInput("no database is chosen", hint="Choose all of them, or at least one.")
    try:
        limit = off_or(rate)((form.limit.data or "off").strip())
    except ValueError as error:
        raise InvalidInput(f"the limit {error}") from error
    text = form.credentials.data or ""
    credentials = parse_credentials(text) if text.strip() else None
    return service.Changes(
        name=name,
        url=url,
        credentials={} if form.no_credentials.data else credentials,
        recipients=tuple((form.recipients.data or "").split("\n")),
        databases=databases,
        read_back=service.read_back_named(form.read_back.data or ""),
        bytes_per_second=limit,
        takes_catalogue=service.takes_catalogue_named(form.catalogue.data)
        if form.catalogue.data
        else None,
    )


def _asking(form: StoreForm) -> service.Asking:
    return service.Asking(is_asked=not form.untested.data, take_over=form.take_over.data)


def _form_of(store: Store) -> StoreForm:
    return StoreForm(
        formdata=None,
        data={
            "name": store.name,
            "url": store.address,
            "recipients": "\n".join(store.recipients),
            "all_databases": store.takes_all,
            "databases": [database.name for database in store.databases],
            "read_back": store.read_back.value,
            "catalogue": store.takes_catalogue.value,
            "limit": rate_text(store.bytes_per_second),
        },
    )


def _new(form: StoreForm, error: AppError | None = None, steps: Steps = ()) -> str:
    return render_template(
        "stores/new.html", form=form, error=error, steps=steps, known=list_databases()
    )


def _page(
    row: lookup.Row, form: StoreForm, error: AppError | None = None, steps: Steps = ()
) -> str:
    return render_template(
        "stores/show.html",
        row=row,
        store=row.store,
        form=form,
        error=error,
        steps=steps,
        known=list_databases(),
        copies=list_copies(store=row.store.name),
        stores={row.store.id: row.store.name},
    )
