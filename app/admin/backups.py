"""Pages of backups: the list with the create form, and one page for each."""

from datetime import date
from itertools import groupby

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import viewer
from app.admin.choice import chosen_database
from app.admin.forms import DropForm, NotesForm, PinForm
from app.admin.passwords import error_text, refuse_field
from app.auth import signed_in_admin
from app.config import CANCEL_PATIENCE
from app.downloads import backup_response
from app.errors import AppError, Conflict, InvalidInput
from app.models import DatabaseBackup, Trigger
from app.models.types import now
from app.services.backups import filters as filtering
from app.services.backups import good, listing, pins, service
from app.services.copies import service as copies
from app.services.jobs.progress import progress_of
from app.services.proofs.records import best_proofs, list_proofs
from app.services.restores.by_hand import restore_by_hand
from app.services.schedules.outlook import get_glance
from app.wording import _, _l, said

blueprint = Blueprint("backups", __name__, url_prefix="/backup")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """The list and the form."""
    return _list(NotesForm())


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Start a backup; the list shows its progress."""
    form = NotesForm()
    try:
        backup = service.queue_backup(
            chosen_database(),
            trigger=Trigger.ADMIN,
            created_by=signed_in_admin().username,
            notes=form.notes.data or "",
        )
    except InvalidInput as error:
        form.notes.errors = [error.message]
        return _list(form)[0], 422
    except Conflict as error:
        _flash_error(error)
        return redirect(url_for(".index"))
    flash(_("Backup %(filename)s has been started.", filename=backup.filename), "success")
    return redirect(url_for(".index"))


@blueprint.get("/<filename>")
def show(filename: str) -> ResponseReturnValue:
    """Everything known of one backup."""
    backup = listing.get_backup(filename)
    return _page(backup, NotesForm(obj=backup))


@blueprint.get("/<filename>/certificate")
def certificate(filename: str) -> ResponseReturnValue:
    """How far a backup is proven, to print. Raises Conflict for one that holds nothing."""
    backup = listing.get_backup(filename)
    if not backup.is_completed:
        raise Conflict(f"{filename} is {backup.status.value}: there is nothing to certify")
    return render_template(
        "backups/certificate.html",
        backup=backup,
        has_file=listing.has_file(backup),
        proof=best_proofs([backup]).get(backup.id),
        proofs=list_proofs(backup.id),
        copies=copies.list_copies(filename=filename),
        stores=copies.names_of_stores(),
        issued_at=now(),
    )


@blueprint.get("/<filename>/download")
def download(filename: str) -> Response:
    """The dump."""
    return backup_response(filename)


@blueprint.post("/<filename>/notes")
def update(filename: str) -> ResponseReturnValue:
    """Change the notes."""
    form = NotesForm()
    try:
        service.edit_notes(filename, form.notes.data or "")
    except InvalidInput as error:
        form.notes.errors = [error.message]
        return _page(listing.get_backup(filename), form), 422
    flash(_("The notes have been saved."), "success")
    return redirect(url_for(".show", filename=filename))


@blueprint.post("/<filename>/cancel")
def cancel(filename: str) -> ResponseReturnValue:
    """Cancel a pending backup."""
    try:
        service.cancel_backup(filename, by=signed_in_admin().username)
    except Conflict as error:
        _flash_error(error)
        return redirect(url_for(".show", filename=filename))
    backup = service.wait_for_backup(listing.get_backup(filename).id, CANCEL_PATIENCE)
    if backup.is_completed:
        flash(
            _("Backup %(filename)s was completed before it could be cancelled.", filename=filename),
            "warning",
        )
    else:
        text = (
            _("Backup %(filename)s will end in a moment.", filename=filename)
            if backup.is_pending
            else _("Backup %(filename)s has been cancelled.", filename=filename)
        )
        flash(text, "success")
    return redirect(url_for(".show", filename=filename))


@blueprint.post("/<filename>/pin")
def pin(filename: str) -> ResponseReturnValue:
    """Pin a backup."""
    form = PinForm()
    try:
        pins.pin_backup(filename, form.reason.data or "", by=signed_in_admin().username)
    except (InvalidInput, Conflict) as error:
        flash(error_text(error), "danger")
    else:
        flash(_("The backup has been pinned: no retention rule removes it."), "success")
    return redirect(url_for(".show", filename=filename))


@blueprint.post("/<filename>/unpin")
def unpin(filename: str) -> ResponseReturnValue:
    """Unpin a backup."""
    pins.unpin_backup(filename, by=signed_in_admin().username)
    flash(_("The backup has been unpinned."), "success")
    return redirect(url_for(".show", filename=filename))


@blueprint.get("/<filename>/delete")
def confirm_delete(filename: str) -> ResponseReturnValue:
    """Ask before a backup is deleted."""
    return _delete_page(listing.get_backup(filename), DropForm())


@blueprint.post("/<filename>/delete")
def delete(filename: str) -> ResponseReturnValue:
    """Delete a backup, if the name of its database was typed."""
    backup, form = listing.get_backup(filename), DropForm()
    if backup.is_completed and (form.name.data or "").strip() != backup.database.strip():
        refuse_field(
            form.name, _l("Type %(database)s to delete a backup of it.", database=backup.database)
        )
        return _delete_page(backup, form), 422
    try:
        service.delete_backup(filename)
    except Conflict as error:
        _flash_error(error)
        return redirect(url_for(".show", filename=filename))
    flash(_("Backup %(filename)s has been deleted.", filename=filename), "success")
    return redirect(url_for(".index"))


def _delete_page(backup: DatabaseBackup, form: DropForm) -> str:
    is_last_good = good.is_last_good(backup)
    return render_template(
        "backups/delete.html", backup=backup, form=form, is_last_good=is_last_good
    )


def _list(form: NotesForm) -> tuple[str, int]:
    """The list; with a parameter that is invalid, the reason and no backups."""
    asked, refused = request.args.to_dict(), None
    filters, page, order = filtering.Filters(), listing.Page([], None), filtering.Order.NEWEST
    try:
        filters, order = filtering.read_filters(asked, viewer.zone())
        page = listing.list_backups(filters, limit=25, before=asked.get("before"), order=order)
    except InvalidInput as error:
        refused = error
    database = filters.database or chosen_database()
    newest_good = good.find_newest_good(database)
    newest_bad = good.find_newest_bad(database, newest_good)
    next_backup, retention = get_glance(database)
    rendered = render_template(
        "backups/index.html",
        form=form,
        page=page,
        days=_by_day(page.backups, order),
        sizes_before=listing.sizes_before(page.backups),
        newest_good=newest_good,
        newest_bad=newest_bad,
        next_backup=next_backup,
        proofs=best_proofs([*page.backups, *filter(None, [newest_good, newest_bad])]),
        database=database,
        retention=retention,
        asked={name: asked[name] for name in filtering.WORDS if asked.get(name)},
        error=refused,
        has_file=listing.has_file,
        stores_with=copies.places_of(page.backups) if copies.names_of_stores() else {},
        progress_of=progress_of,
    )
    return rendered, 422 if refused else 200


def _by_day(
    backups: list[DatabaseBackup], order: filtering.Order
) -> list[tuple[date | None, list[DatabaseBackup]]]:
    """The backups by the day on which they were made; in one group if ordered by size."""
    if order is filtering.Order.LARGEST:
        return [(None, backups)]
    zone = viewer.zone()
    days = groupby(backups, key=lambda backup: backup.created_at.astimezone(zone).date())
    return [(day, list(made)) for day, made in days]


def _page(backup: DatabaseBackup, form: NotesForm) -> str:
    return render_template(
        "backups/show.html",
        backup=backup,
        form=form,
        pin_form=PinForm(),
        has_file=listing.has_file(backup),
        progress=progress_of(backup),
        by_hand=restore_by_hand(backup),
        proofs=list_proofs(backup.id),
        copies=copies.list_copies(filename=backup.filename),
        stores=copies.names_of_stores(),
    )


def _flash_error(error: AppError) -> None:
    flash(f"{said(error.message)}. {said(error.hint)}".strip(), "danger")
