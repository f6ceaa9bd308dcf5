"""Copies of a backup: made, verified, fetched and removed from its page."""

from collections.abc import Callable

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.admin.passwords import error_text
from app.auth import signed_in_admin
from app.config import CANCEL_PATIENCE
from app.downloads import copy_response
from app.errors import AppError
from app.models import Copy, Trigger
from app.services.backups.listing import has_row
from app.services.copies import service
from app.wording import _

blueprint = Blueprint("copies", __name__)


@blueprint.post("/backup/<filename>/copies")
def create(filename: str) -> ResponseReturnValue:
    """Copy a backup to the chosen store."""
    store = request.form.get("store", "")[:63]

    def act(by: str) -> str:
        service.copy_backup(filename, store, trigger=Trigger.ADMIN, by=by)
        return _("The backup is being copied to %(store)s.", store=store)

    return _act(filename, act)


@blueprint.get("/copies/<copy_id>/download")
def download(copy_id: str) -> Response:
    """The copy as it lies in its store."""
    return copy_response(copy_id)


@blueprint.post("/copies/<copy_id>/cancel")
def cancel(copy_id: str) -> ResponseReturnValue:
    """Cancel one that waits or is being made."""

    def act(by: str) -> str:
        service.cancel_copy(copy_id, by=by)
        service.wait_for_copy(copy_id, CANCEL_PATIENCE)
        return _("The copy has been cancelled; it is not tried again.")

    return _act(service.get_copy(copy_id).filename, act)


@blueprint.post("/copies/<copy_id>/verify")
def verify(copy_id: str) -> ResponseReturnValue:
    """Have a worker read it back."""

    def act(by: str) -> str:
        service.queue_verification(copy_id, by=by)
        return _("The copy is being read back; reload this page in a while.")

    return _act(service.get_copy(copy_id).filename, act)


@blueprint.post("/copies/<copy_id>/fetch")
def fetch(copy_id: str) -> ResponseReturnValue:
    """Have a worker bring it back."""

    def act(by: str) -> str:
        service.queue_fetch(copy_id, by=by)
        return _("The copy is being fetched; reload this page in a while.")

    return _act(service.get_copy(copy_id).filename, act)


@blueprint.get("/copies/<copy_id>/remove")
def confirm_delete(copy_id: str) -> ResponseReturnValue:
    """Ask before removing a copy."""
    copy = service.get_copy(copy_id)
    return render_template(
        "copies/delete.html", copy=copy, store=_store_of(copy), is_only=service.is_only(copy)
    )


@blueprint.post("/copies/<copy_id>/remove")
def delete(copy_id: str) -> ResponseReturnValue:
    """Remove it from its store."""
    copy = service.get_copy(copy_id)
    filename, store = copy.filename, _store_of(copy)

    def act(by: str) -> str:
        service.remove_copy(copy_id, by=by)
        return _("The copy in %(store)s has been removed.", store=store)

    return _act(filename, act)


def _store_of(copy: Copy) -> str:
    return service.names_of_stores()[copy.store_id]


def _act(filename: str, act: Callable[[str], str]) -> ResponseReturnValue:
    """Do it; `act` returns the message. Errors come back to the page."""
    try:
        flash(act(signed_in_admin().username), "success")
    except AppError as error:
        flash(error_text(error), "danger")
    if has_row(filename):
        return redirect(url_for("admin.backups.show", filename=filename))
    return redirect(url_for("admin.stores.index"))
