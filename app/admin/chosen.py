"""Several backups of the list at once: pin or delete them."""

from collections.abc import Callable

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.admin.forms import DropForm, PinForm
from app.admin.passwords import error_text, refuse_field
from app.auth import signed_in_admin
from app.errors import AppError, InvalidInput
from app.formatting import backups_text
from app.models import DatabaseBackup
from app.services.backups import good, listing, pins, service
from app.wording import _, _l, ngettext

blueprint = Blueprint("chosen", __name__, url_prefix="/backup/chosen")

_SHOWN = 5  # refusals


@blueprint.get("")
def confirm() -> ResponseReturnValue:
    """Show the chosen backups, and ask what to do with them."""
    if not (backups := _chosen()):
        return _none_chosen()
    return _page(backups, PinForm(), DropForm(), is_deletion=request.args.get("act") == "delete")


@blueprint.post("/pin")
def pin() -> ResponseReturnValue:
    """Pin all of them for one reason."""
    form, backups = PinForm(), _chosen()
    if not backups:
        return _none_chosen()
    try:
        reason = pins.clean_reason(form.reason.data or "")
    except InvalidInput as error:
        refuse_field(form.reason, error_text(error))
        return _page(backups, form, DropForm(), is_deletion=False), 422
    by = signed_in_admin().username
    return _each(backups, _pinned, lambda name: pins.pin_backup(name, reason, by=by))


@blueprint.post("/delete")
def delete() -> ResponseReturnValue:
    """Delete all of them, if their number was typed."""
    form, backups = DropForm(), _chosen()
    if not backups:
        return _none_chosen()
    if (form.name.data or "").strip() != str(len(backups)):
        refuse_field(form.name, _l("Type %(number)s to delete these backups.", number=len(backups)))
        return _page(backups, PinForm(), form, is_deletion=True), 422
    return _each(backups, _deleted, service.delete_backup)


def _chosen() -> list[DatabaseBackup]:
    """The backups that the request names, as far as they still exist."""
    return listing.get_backups(request.values.getlist("filename")[: listing.MAX_LIMIT])


def _none_chosen() -> ResponseReturnValue:
    flash(_("Choose backups by the boxes before their dates first."), "warning")
    return redirect(url_for("admin.backups.index"))


def _page(
    backups: list[DatabaseBackup], pin_form: PinForm, drop_form: DropForm, *, is_deletion: bool
) -> str:
    return render_template(
        "backups/chosen.html",
        backups=backups,
        size=sum(backup.size for backup in backups),
        pin_form=pin_form,
        form=drop_form,
        is_deletion=is_deletion,
        left_without=good.left_without(backups) if is_deletion else [],
    )


def _pinned(number: int) -> str:
    return ngettext("%(num)s backup has been pinned.", "%(num)s backups have been pinned.", number)


def _deleted(number: int) -> str:
    return ngettext(
        "%(num)s backup has been deleted.", "%(num)s backups have been deleted.", number
    )


def _each(
    backups: list[DatabaseBackup], done: Callable[[int], str], act: Callable[[str], object]
) -> ResponseReturnValue:
    """Do it with one after the other; what is refused does not keep the rest from it."""
    refused: list[AppError] = []
    for filename in [backup.filename for backup in backups]:
        try:
            act(filename)
        except AppError as error:
            refused.append(error)
    if number := len(backups) - len(refused):
        flash(done(number), "success")
    for refusal in refused[:_SHOWN]:
        flash(error_text(refusal), "danger")
    if more := len(refused[_SHOWN:]):
        flash(
            _("%(backups)s more: refused for similar reasons.", backups=backups_text(more)),
            "danger",
        )
    return redirect(url_for("admin.backups.index"))
