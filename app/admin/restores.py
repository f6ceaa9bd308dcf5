"""Drills and restores: the wizard, the list, and each one's page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import auth
from app.admin.forms import DropKeptForm, PasswordForm, RestoreForm
from app.admin.passwords import confirming, error_text, refusal_of, refuse_field
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
from app.models import Kind, Restore, Trigger
from app.postgres.selection import Name
from app.services.access.sign_in import Confirm, at_the_terminal
from app.services.jobs.progress import progress_of
from app.services.proofs import records as proofs
from app.services.restores import service
from app.services.restores.preview import Preview
from app.services.restores.request import RestoreRequest, proposed_name, refuse_unconfirmed
from app.services.restores.source import Source, get_source
from app.services.restores.tables import choose_tables
from app.wording import _, _l

blueprint = Blueprint("restores", __name__)

_LISTED = 100


@dataclass(frozen=True)
class _Option:
    """One kind of restore in the wizard: what it would do, or why it cannot."""

    preview: Preview | None = None
    refused: AppError | None = None

    @property
    def powers(self) -> str:
        return self.preview.powers if self.preview else ""


@blueprint.get("/restores")
def index() -> ResponseReturnValue:
    """All of them, or those of one backup, newest first."""
    filename = request.args.get("filename", "")[:255]
    restores = service.list_restores(filename=filename, limit=_LISTED)
    return render_template(
        "restores/index.html", restores=restores, filename=filename, progress_of=progress_of
    )


@blueprint.post("/backup/<filename>/drill")
def create_drill(filename: str) -> ResponseReturnValue:
    """Start a drill; its page shows the progress."""
    by = auth.signed_in_admin().username
    return _start(RestoreRequest(get_source(filename), Kind.DRILL, Trigger.ADMIN, by))


@blueprint.get("/backup/<filename>/restore")
def new(filename: str) -> ResponseReturnValue:
    """The wizard: what to restore, into what, and what will happen."""
    source, tables = _chosen_source(filename), "\n".join(request.args.getlist("tables"))
    form = RestoreForm(formdata=None, into=proposed_name(source), tables=tables)
    return _wizard(source, form, _chosen_tables(source, form))


@blueprint.post("/backup/<filename>/restore")
def create(filename: str) -> ResponseReturnValue:
    """Start a restore; one over the live database needs its name and the password."""
    source, form = _chosen_source(filename), RestoreForm()
    form.validate()
    tables = _chosen_tables(source, form)
    if form.errors:
        return _wizard(source, form, tables), 422
    kind = Kind(form.mode.data)
    is_beside = kind is Kind.BESIDE
    if not is_beside and not _is_confirmed(source, form):
        return _wizard(source, form, tables), 422
    restore = RestoreRequest(
        source,
        kind,
        Trigger.ADMIN,
        auth.signed_in_admin().username,
        into=(form.into.data or "").strip() if is_beside else "",
        tables=tables,
        as_superuser=bool(form.superuser.data),
    )
    try:
        return _start(restore, confirming(form))
    except (WrongPassword, TooManyAttempts) as error:
        refusal = refusal_of(error, form)
        return _wizard(source, form, tables), *refusal
    except InvalidInput as error:
        (form.into if is_beside else form.superuser).errors = [error_text(error)]
        return _wizard(source, form, tables), 422


@blueprint.get("/restores/<restore_id>")
def show(restore_id: str) -> ResponseReturnValue:
    """One of them, with its progress or result."""
    restore = service.get_restore(restore_id)
    return render_template(
        "restores/show.html",
        restore=restore,
        progress=progress_of(restore),
        proof=proofs.proof_of(restore),
    )


@blueprint.post("/restores/<restore_id>/cancel")
def cancel(restore_id: str) -> ResponseReturnValue:
    """Cancel one that is queued or running."""
    try:
        service.cancel_restore(restore_id, by=auth.signed_in_admin().username)
    except Conflict as error:
        flash(error_text(error), "danger")
        return _to_page(restore_id)
    restore = service.wait_for_restore(restore_id, CANCEL_PATIENCE)
    if restore.is_completed:
        flash(_("It was completed before it could be cancelled."), "warning")
    else:
        flash(_ended_text(restore), "success")
    return _to_page(restore_id)


@blueprint.get("/restores/<restore_id>/undo")
def confirm_undo(restore_id: str) -> ResponseReturnValue:
    """Ask before bringing the old database back."""
    restore = service.get_restore(restore_id)
    return render_template("restores/undo.html", restore=restore, form=PasswordForm())


@blueprint.post("/restores/<restore_id>/undo")
def undo(restore_id: str) -> ResponseReturnValue:
    """Bring the old database back."""
    restore, by = service.get_restore(restore_id), auth.signed_in_admin().username

    def act(confirm: Confirm) -> str:
        aside = service.undo_restore(restore_id, by=by, confirm=confirm)
        return _(
            "%(database)s is the old database again. The restored one is %(aside)s.",
            database=restore.database,
            aside=aside,
        )

    return _act("restores/undo.html", restore, PasswordForm(), act)


@blueprint.get("/restores/<restore_id>/drop")
def confirm_drop(restore_id: str) -> ResponseReturnValue:
    """Ask before dropping the kept database."""
    restore = service.get_restore(restore_id)
    return render_template("restores/drop.html", restore=restore, form=DropKeptForm())


@blueprint.post("/restores/<restore_id>/drop")
def drop_kept(restore_id: str) -> ResponseReturnValue:
    """Drop the kept database if its name was typed and the password is right."""
    restore, form = service.get_restore(restore_id), DropKeptForm()
    if (form.name.data or "").strip() != restore.database.strip():
        refuse_field(
            form.name,
            _l("Type %(database)s to drop the database that is kept.", database=restore.database),
        )
        return render_template("restores/drop.html", restore=restore, form=form), 422
    by = auth.signed_in_admin().username

    def act(confirm: Confirm) -> str:
        service.drop_kept(restore_id, by=by, confirm=confirm)
        return _("Database %(kept)s has been dropped.", kept=restore.kept)

    return _act("restores/drop.html", restore, form, act)


def _act(
    template: str, restore: Restore, form: PasswordForm, act: Callable[[Confirm], str]
) -> ResponseReturnValue:
    """Do what the password on the form confirms; `act` returns the message."""
    try:
        flash(act(confirming(form)), "success")
    except (WrongPassword, TooManyAttempts) as error:
        refusal = refusal_of(error, form)
        return render_template(template, restore=restore, form=form), *refusal
    except (Conflict, PostgresError) as error:
        flash(error_text(error), "danger")
    return _to_page(restore.id)


def _ended_text(restore: Restore) -> str:
    if restore.is_pending:
        return (
            _("The drill will end in a moment.")
            if restore.is_drill
            else _("The restore will end in a moment.")
        )
    return (
        _("The drill has been cancelled.")
        if restore.is_drill
        else _("The restore has been cancelled.")
    )


def _chosen_source(filename: str) -> Source:
    """The backup, to restore to the database that the page names, or its own."""
    return get_source(filename, request.values.get("to", "")[:63])


def _chosen_tables(source: Source, form: RestoreForm) -> list[Name]:
    """The tables named on the form, whose field gets the errors."""
    lines = map(str.strip, (form.tables.data or "").splitlines())
    try:
        tables = choose_tables(source, filter(None, lines))
    except InvalidInput as error:
        refuse_field(form.tables, error_text(error))
        return []
    if tables and form.mode.data != Kind.BESIDE.value:
        refuse_field(form.tables, _l("Selected tables can only be restored beside."))
    return tables


def _start(restore: RestoreRequest, confirm: Confirm = at_the_terminal) -> ResponseReturnValue:
    try:
        row = service.queue_restore(restore, confirm=confirm)
    except (Conflict, PostgresError, StorageError) as error:
        flash(error_text(error), "danger")
        back = "admin.backups.show" if restore.kind is Kind.DRILL else ".new"
        to = request.values.get("to") or None
        return redirect(url_for(back, filename=restore.source.filename, to=to))
    return _to_page(row.id)


def _wizard(source: Source, form: RestoreForm, tables: Sequence[Name]) -> str:
    beside = _option(source, Kind.BESIDE, tables)
    replace, in_place = (_option(source, kind) for kind in (Kind.REPLACE, Kind.IN_PLACE))
    return render_template(
        "restores/new.html",
        backup=source.backup,
        target=source.database,
        form=form,
        preview=beside.preview or replace.preview or in_place.preview,
        powers=in_place.powers or beside.powers or replace.powers,
        beside=beside,
        replace=replace,
        in_place=in_place,
    )


def _option(source: Source, kind: Kind, tables: Sequence[Name] = ()) -> _Option:
    try:
        return _Option(preview=service.preview_restore(source, kind, tables=tables))
    except AppError as error:
        return _Option(refused=error)


def _is_confirmed(source: Source, form: RestoreForm) -> bool:
    """Whether the form names the database to replace; otherwise its field gets the error."""
    try:
        refuse_unconfirmed(source, form.confirm.data or "")
    except InvalidInput as error:
        form.confirm.errors = [error_text(error)]
        return False
    return True


def _to_page(restore_id: str) -> ResponseReturnValue:
    return redirect(url_for(".show", restore_id=restore_id))
