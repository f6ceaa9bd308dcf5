"""Databases: the list, the form that adds one, and the page of each."""

from collections.abc import Sequence

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.admin.forms import DatabaseForm
from app.admin.passwords import error_text
from app.auth import signed_in_admin
from app.errors import AppError, Conflict, InvalidInput, PostgresError
from app.models import Database
from app.problems import status_of
from app.readers import MOST_DUMP_JOBS, number, seconds
from app.services.databases import connection_test, discovery, lookup, service
from app.services.databases.grants import DEFAULT_ROLE, grants_for
from app.services.health.overview import read_overview, read_row
from app.services.schedules.service import make_first_schedules
from app.steps import Step
from app.wording import _

blueprint = Blueprint("databases", __name__, url_prefix="/databases")

Steps = Sequence[Step]

_SHOWN = 100  # databases
_TEXTS = ("ssh_url", "ssh_identity_file", "ssh_host_key", "compression")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """Databases at a glance, by name."""
    after = request.args.get("after", "")
    rows = [row for row in read_overview() if row.database.name > after]
    next_after = rows[_SHOWN - 1].database.name if len(rows) > _SHOWN else None
    return render_template(
        "databases/index.html", rows=rows[:_SHOWN], after=after, next_after=next_after
    )


@blueprint.get("/new")
def new() -> ResponseReturnValue:
    """The form."""
    return _new(DatabaseForm())


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Guard another database."""
    form, by = DatabaseForm(), signed_in_admin().username
    try:
        changes = _changes_of(form)
        database = service.add_database(form.name.data or "", form.url.data or "", changes, by=by)
    except (InvalidInput, Conflict) as error:
        return _new(form, error), status_of(error)
    make_first_schedules()
    flash(
        _("%(name)s is guarded. Back it up now, and schedule its backups.", name=database.name),
        "success",
    )
    return redirect(url_for(".show", name=database.name))


@blueprint.post("/-/test")  # no name begins like that
def test_new() -> ResponseReturnValue:
    """Test the connection of the form that adds a database; nothing is saved."""
    form = DatabaseForm()
    try:
        steps = connection_test.check_url(form.url.data or "", _changes_of(form))
    except InvalidInput as error:
        return _new(form, error), 422
    return _new(form, steps=steps)


@blueprint.get("/<name>")
def show(name: str) -> ResponseReturnValue:
    """One database, and the form that changes it."""
    database = lookup.get_database(name)
    return _page(database, _form_of(database))


@blueprint.post("/<name>/test")
def test(name: str) -> ResponseReturnValue:
    """Test the connection to it."""
    database = lookup.get_database(name)
    return _page(database, _form_of(database), steps=connection_test.check_database(name))


@blueprint.get("/<name>/grants")
def grants(name: str) -> ResponseReturnValue:
    """The SQL of a role with least rights, to copy."""
    role = request.args.get("role", DEFAULT_ROLE)
    try:
        sql = grants_for(name, role)
    except (InvalidInput, PostgresError) as error:
        return _grants(name, role, error=error), status_of(error)
    return _grants(name, role, sql)


@blueprint.get("/<name>/discovery")
def discover(name: str) -> ResponseReturnValue:
    """The databases on its server, to choose from."""
    return _discovery(name)


@blueprint.post("/<name>/discovery")
def add_neighbours(name: str) -> ResponseReturnValue:
    """Guard the chosen ones too."""
    choices = [
        discovery.Choice(dbname, request.form.get(f"name of {dbname}", ""))
        for dbname in request.form.getlist("dbname")
    ]
    try:
        added = discovery.add_neighbours(name, choices, by=signed_in_admin().username)
    except (InvalidInput, Conflict) as error:
        return _discovery(name, error), status_of(error)
    make_first_schedules()
    names = ", ".join(database.name for database in added)
    flash(
        _("Guarded now: %(names)s. Back them up, and schedule their backups.", names=names),
        "success",
    )
    return redirect(url_for(".index"))


@blueprint.post("/<name>")
def update(name: str) -> ResponseReturnValue:
    """Change it; an empty URL stays as it is."""
    database, form = lookup.get_database(name), DatabaseForm()
    try:
        changes = _changes_of(form, url=form.url.data or None, name=form.name.data or "")
        edited = service.edit_database(name, changes, by=signed_in_admin().username)
    except (InvalidInput, Conflict) as error:
        return _page(database, form, error), status_of(error)
    flash(_("%(name)s has been saved.", name=edited.name), "success")
    return redirect(url_for(".show", name=edited.name))


@blueprint.post("/<name>/pause")
def pause(name: str) -> ResponseReturnValue:
    """Stop its schedules."""
    service.pause_database(name, by=signed_in_admin().username)
    flash(_("%(name)s is paused: its schedules wait.", name=name), "success")
    return redirect(url_for(".show", name=name))


@blueprint.post("/<name>/resume")
def resume(name: str) -> ResponseReturnValue:
    """Back it up again."""
    try:
        service.resume_database(name, by=signed_in_admin().username)
    except Conflict as error:
        flash(error_text(error), "danger")
    else:
        flash(_("%(name)s is active: its schedules run.", name=name), "success")
    return redirect(url_for(".show", name=name))


@blueprint.post("/<name>/retire")
def retire(name: str) -> ResponseReturnValue:
    """Never back it up again; its backups stay."""
    try:
        service.retire_database(name, by=signed_in_admin().username)
    except Conflict as error:
        flash(error_text(error), "danger")
        return redirect(url_for(".show", name=name))
    flash(_("%(name)s is retired. Its backups are kept.", name=name), "success")
    return redirect(url_for(".index"))


def _changes_of(
    form: DatabaseForm, *, url: str | None = None, name: str | None = None
) -> service.Changes:
    """Raises InvalidInput."""
    tables = tuple((form.without_rows_of.data or "").split("\n"))
    try:
        length = (form.max_age.data or "").strip()
        max_age = seconds(length) if length else 0
    except ValueError as error:
        raise InvalidInput(f"the age {error}") from error
    texts = {key: form[key].data or "" for key in _TEXTS}
    return service.Changes(
        name=name,
        url=url,
        **texts,
        without_rows_of=tables,
        skips_counting=bool(form.skips_counting.data),
        dump_jobs=_jobs((form.dump_jobs.data or "").strip()),
        max_age=max_age,
    )


def _jobs(text: str) -> int:
    """0 for none. Raises InvalidInput."""
    try:
        return number(1, MOST_DUMP_JOBS)(text) if text else 0
    except ValueError as error:
        raise InvalidInput(f"the number of tables that are dumped at once {error}") from error


def _length_text(length: int) -> str:
    """26h, or 90s; empty for none."""
    hours, rest = divmod(length, 3600)
    return (f"{length}s" if rest else f"{hours}h") if length else ""


def _form_of(database: Database) -> DatabaseForm:
    return DatabaseForm(
        formdata=None,
        data={
            "name": database.name,
            **{key: getattr(database, key) for key in _TEXTS},
            "without_rows_of": "\n".join(database.without_rows_of),
            "skips_counting": database.skips_counting,
            "dump_jobs": database.dump_jobs or "",
            "max_age": _length_text(database.max_age or 0),
        },
    )


def _new(form: DatabaseForm, error: AppError | None = None, steps: Steps = ()) -> str:
    return render_template("databases/new.html", form=form, error=error, steps=steps)


def _grants(name: str, role: str, sql: str = "", error: AppError | None = None) -> str:
    return render_template("databases/grants.html", name=name, role=role, sql=sql, error=error)


def _discovery(name: str, error: AppError | None = None) -> str:
    return render_template(
        "databases/discovery.html",
        database=lookup.get_database(name),
        neighbours=discovery.discover(name),
        state_of=lookup.state_of,
        error=error,
    )


def _page(
    database: Database, form: DatabaseForm, error: AppError | None = None, steps: Steps = ()
) -> str:
    return render_template(
        "databases/show.html",
        database=database,
        state=lookup.state_of(database),
        form=form,
        error=error,
        steps=steps,
        default_role=DEFAULT_ROLE,
        spread=read_row(database.name).spread,
    )
