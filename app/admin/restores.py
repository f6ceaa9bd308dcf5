"""Drills and restores: the wizard, the list, and each one's page."""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import auth
from app.admin.forms import DropKeptForm, PasswordForm, RestoreForm
from app.admin.passwords import confirming, refusal_of, refuse_field, told
from app.config import CANCEL_PATIENCE
from app.errors import (
    AppError,
    Conflict,
    InvalidInput,
    PostgresError,
    StorageError,
    TooManyAttempts,
    WrongPassword,
)
from app.models import Kind, Trigger
from app.postgres.selection import Name
from app.services.backups import listing
from app.services.jobs.progress import progress_of
from app.services.proofs import records as proofs
from app.services.restores import service
from app.services.restores.tables import choose_tables

blueprint = Blueprint("restores", __name__)

_LISTED = 100


@blueprint.get("/restores")
def index() -> ResponseReturnValue:
    """All of them, newest first; or those of one backup."""
    filename = request.args.get("filename", "")[:255]
    found = service.list_restores(filename=filename, limit=_LISTED)
    return render_template(
        "restores/index.html", restores=found, filename=filename, progress_of=progress_of
    )


@blueprint.post("/backup/<filename>/drill")
def create_drill(filename: str) -> ResponseReturnValue:
    """Start a drill; its page shows how it goes."""
    return _started(filename, Kind.DRILL)


@blueprint.get("/backup/<filename>/restore")
def new(filename: str) -> ResponseReturnValue:
    """The wizard: what, where, and what will happen."""
    chosen = "\n".join(request.args.getlist("tables"))
    form = RestoreForm(formdata=None, into=service.proposed_name(filename), tables=chosen)
    return _wizard(filename, form)


@blueprint.post("/backup/<filename>/restore")
def create(filename: str) -> ResponseReturnValue:
    """Start a restore; over what lives it is confirmed by its name and the password."""
    form = RestoreForm()
    tables = _chosen(filename, form) if form.validate() else []
    if form.errors:
        return _wizard(filename, form), 422
    kind = Kind(form.mode.data)
    is_beside = kind is Kind.BESIDE
    if not is_beside and not _is_named(filename, form):
        return _wizard(filename, form), 422
    into = (form.into.data or "").strip() if is_beside else ""
    superuser = bool(form.superuser.data)
    try:
        return _started(
            filename,
            kind,
            into=into,
            tables=tables,
            as_superuser=superuser,
            confirm=confirming(form),
        )
    except (WrongPassword, TooManyAttempts) as error:
        refusal = refusal_of(error, form)
        return _wizard(filename, form), *refusal
    except InvalidInput as error:
        (form.into if is_beside else form.superuser).errors = [told(error)]
        return _wizard(filename, form), 422


@blueprint.get("/restores/<restore_id>")
def show(restore_id: str) -> ResponseReturnValue:
    """Everything known of one."""
    restore = service.get_restore(restore_id)
    return render_template(
        "restores/show.html",
        restore=restore,
        progress=progress_of(restore),
        proof=proofs.proof_of(restore),
    )


@blueprint.post("/restores/<restore_id>/cancel")
def cancel(restore_id: str) -> ResponseReturnValue:
    """End one that waits or runs."""
    try:
        service.cancel_restore(restore_id, by=auth.signed_in_admin().username)
    except Conflict as error:
        flash(told(error), "danger")
        return _to_page(restore_id)
    restore = service.wait_for_restore(restore_id, CANCEL_PATIENCE)
    if restore.is_completed:
        flash("It was completed before it could be cancelled.", "warning")
    else:
        outcome = "will end in a moment" if restore.is_pending else "has been cancelled"
        flash(f"The {restore.told} {outcome}.", "success")
    return _to_page(restore_id)


@blueprint.get("/restores/<restore_id>/undo")
def confirm_undo(restore_id: str) -> ResponseReturnValue:
    """Ask before the old database comes back."""
    restore = service.get_restore(restore_id)
    return render_template("restores/undo.html", restore=restore, form=PasswordForm())


@blueprint.post("/restores/<restore_id>/undo")
def undo(restore_id: str) -> ResponseReturnValue:
    """Bring the old database back."""
    restore, form = service.get_restore(restore_id), PasswordForm()
    by = auth.signed_in_admin().username
    try:
        aside = service.undo_restore(restore_id, by=by, confirm=confirming(form))
    except (WrongPassword, TooManyAttempts) as error:
        refusal = refusal_of(error, form)
        return render_template("restores/undo.html", restore=restore, form=form), *refusal
    except (Conflict, PostgresError) as error:
        flash(told(error), "danger")
        return _to_page(restore_id)
    flash(f"{restore.database} is what it was before. The other one is {aside}.", "success")
    return _to_page(restore_id)


@blueprint.get("/restores/<restore_id>/drop")
def confirm_drop(restore_id: str) -> ResponseReturnValue:
    """Ask before the kept database is gone."""
    restore = service.get_restore(restore_id)
    return render_template("restores/drop.html", restore=restore, form=DropKeptForm())


@blueprint.post("/restores/<restore_id>/drop")
def drop_kept(restore_id: str) -> ResponseReturnValue:
    """Drop the kept database, if it was named and the password is right."""
    restore, form = service.get_restore(restore_id), DropKeptForm()
    if (form.name.data or "").strip() != restore.database.strip():
        refuse_field(form.name, f"Type {restore.database} to drop what is kept of it.")
        return render_template("restores/drop.html", restore=restore, form=form), 422
    by = auth.signed_in_admin().username
    try:
        service.drop_kept(restore_id, by=by, confirm=confirming(form))
    except (WrongPassword, TooManyAttempts) as error:
        refusal = refusal_of(error, form)
        return render_template("restores/drop.html", restore=restore, form=form), *refusal
    except (Conflict, PostgresError) as error:
        flash(told(error), "danger")
    else:
        flash(f"Database {restore.kept} has been dropped.", "success")
    return _to_page(restore_id)


def _chosen(filename: str, form: RestoreForm) -> list[Name]:
    """The tables that are named on the form; its errors tell what names none."""
    lines = map(str.strip, (form.tables.data or "").splitlines())
    try:
        tables = choose_tables(filename, filter(None, lines))
    except InvalidInput as error:
        refuse_field(form.tables, told(error))
        return []
    if tables and form.mode.data != Kind.BESIDE.value:
        refuse_field(form.tables, "Some tables are restored beside only.")
    return tables


def _started(filename: str, kind: Kind, **wanted: Any) -> ResponseReturnValue:
    try:
        restore = service.queue_restore(
            filename,
            kind,
            trigger=Trigger.ADMIN,
            created_by=auth.signed_in_admin().username,
            **wanted,
        )
    except (Conflict, PostgresError, StorageError) as error:
        flash(told(error), "danger")
        back = "admin.backups.show" if kind is Kind.DRILL else ".new"
        return redirect(url_for(back, filename=filename))
    return _to_page(restore.id)


def _wizard(filename: str, form: RestoreForm) -> str:
    tables = _chosen(filename, form)
    beside = _before(filename, Kind.BESIDE, tables)
    replace, in_place = (_before(filename, kind) for kind in (Kind.REPLACE, Kind.IN_PLACE))
    return render_template(
        "restores/new.html",
        backup=listing.get_backup(filename),
        form=form,
        before=beside["told"] or replace["told"] or in_place["told"],
        beside=beside,
        replace=replace,
        in_place=in_place,
    )


def _before(filename: str, kind: Kind, tables: Sequence[Name] = ()) -> dict[str, Any]:
    """What this kind of restore would do, or why it cannot."""
    try:
        return {"told": service.tell_before(filename, kind, tables=tables), "refused": None}
    except AppError as error:
        return {"told": None, "refused": error}


def _is_named(filename: str, form: RestoreForm) -> bool:
    """Whether the database is named that is replaced; else the form tells."""
    try:
        service.refuse_unconfirmed(filename, form.confirm.data or "")
    except InvalidInput as error:
        form.confirm.errors = [told(error)]
        return False
    return True


def _to_page(restore_id: str) -> ResponseReturnValue:
    return redirect(url_for(".show", restore_id=restore_id))
