"""Schedules: the list, the form with its preview, and the page of each."""

from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.admin.choice import chosen_database
from app.admin.passwords import confirming, refusal_of
from app.admin.schedule_form import AnyScheduleForm as ScheduleForm
from app.auth import signed_in_admin
from app.describing import cron_text
from app.errors import AppError, Conflict, InvalidInput, TooManyAttempts, WrongPassword
from app.models import Task
from app.problems import status_of
from app.services.schedules import listing as reading
from app.services.schedules import service
from app.services.schedules.targets import Consent
from app.services.schedules.times import Preview, preview_times
from app.wording import _
from app.zones import list_zones

blueprint = Blueprint("schedules", __name__, url_prefix="/schedules")

_SHOWN = 50  # on a page


@blueprint.get("")
def index() -> ResponseReturnValue:
    """All of them, a page at a time, each with its last run."""
    database = chosen_database()
    schedules = service.list_schedules(
        database, after=request.args.get("after", ""), limit=_SHOWN + 1
    )
    shown = schedules[:_SHOWN]
    return render_template(
        "schedules/index.html",
        schedules=shown,
        next_after=shown[-1].name if schedules[_SHOWN:] else "",
        last=service.last_firings(shown),
        has_backup=reading.find_next_backup(database) is not None,
        database=database,
    )


@blueprint.get("/new")
def new() -> ResponseReturnValue:
    """The form."""
    return _form(ScheduleForm())


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Make one."""
    form = ScheduleForm()
    by = signed_in_admin().username
    try:
        new_schedule = service.NewSchedule(**_values_of(form))
        created = service.add_schedule(
            new_schedule, of=chosen_database(), created_by=by, consent=_consent_in(form)
        )
    except (WrongPassword, TooManyAttempts) as error:
        refusal = refusal_of(error, form)
        return _form(form), *refusal
    except (InvalidInput, Conflict) as error:
        return _form(form, error=error), status_of(error)
    flash(_("Schedule %(name)s has been created.", name=created.name), "success")
    return redirect(url_for(".show", schedule_id=created.id))


@blueprint.post("/check")
@blueprint.post("/<schedule_id>/check")
def check(schedule_id: str = "") -> ResponseReturnValue:
    """Show what the form means; nothing is saved."""
    form = ScheduleForm()
    try:
        _words, times = preview_times(form.cron.data or "", form.timezone.data or "")
    except InvalidInput as error:
        return _form(form, schedule_id, error=error), 422
    return _form(
        form, schedule_id, preview=(cron_text(" ".join((form.cron.data or "").split())), times)
    )


@blueprint.get("/<schedule_id>")
def show(schedule_id: str) -> ResponseReturnValue:
    """One, with its last runs."""
    schedule = service.get_schedule(schedule_id)
    form = ScheduleForm(obj=schedule)
    form.task.data = schedule.task.value
    return _form(form, schedule_id)


@blueprint.post("/<schedule_id>")
def update(schedule_id: str) -> ResponseReturnValue:
    """Change it."""
    form = ScheduleForm()
    by = signed_in_admin().username
    try:
        edited = service.edit_schedule(
            schedule_id,
            service.ScheduleChanges(**_values_of(form)),
            by=by,
            consent=_consent_in(form),
        )
    except (WrongPassword, TooManyAttempts) as error:
        refusal = refusal_of(error, form)
        return _form(form, schedule_id), *refusal
    except (InvalidInput, Conflict) as error:
        return _form(form, schedule_id, error=error), status_of(error)
    flash(_("Schedule %(name)s has been saved.", name=edited.name), "success")
    return redirect(url_for(".show", schedule_id=schedule_id))


@blueprint.post("/<schedule_id>/pause")
def pause(schedule_id: str) -> ResponseReturnValue:
    """Pause it."""
    edited = service.edit_schedule(
        schedule_id, service.ScheduleChanges(enabled=False), by=signed_in_admin().username
    )
    flash(_("Schedule %(name)s has been paused.", name=edited.name), "success")
    return redirect(url_for(".index"))


@blueprint.post("/<schedule_id>/resume")
def resume(schedule_id: str) -> ResponseReturnValue:
    """Resume it."""
    edited = service.edit_schedule(
        schedule_id, service.ScheduleChanges(enabled=True), by=signed_in_admin().username
    )
    flash(_("Schedule %(name)s has been resumed.", name=edited.name), "success")
    return redirect(url_for(".index"))


@blueprint.post("/<schedule_id>/run")
def run(schedule_id: str) -> ResponseReturnValue:
    """Run it now."""
    firing = service.run_now(schedule_id, by=signed_in_admin().username)
    flash(_("Schedule %(name)s will run within 10 seconds.", name=firing.schedule.name), "success")
    return redirect(url_for(".show", schedule_id=schedule_id))


@blueprint.post("/<schedule_id>/delete")
def delete(schedule_id: str) -> ResponseReturnValue:
    """Delete it."""
    name = service.get_schedule(schedule_id).name
    service.remove_schedule(schedule_id, by=signed_in_admin().username)
    flash(_("Schedule %(name)s has been deleted.", name=name), "success")
    return redirect(url_for(".index"))


def _values_of(form: ScheduleForm) -> dict[str, Any]:
    """What the form says. Raises InvalidInput."""
    keys = ("name", "cron", "timezone", "notes", "target", "sql")
    texts = {key: form[key].data or "" for key in keys}
    heartbeat = {"heartbeat_url": form.heartbeat_url.data or ""}
    is_told = form.no_heartbeat.data or heartbeat["heartbeat_url"]  # empty and unasked: as it is
    task = reading.task_named(form.task.data or "")
    if form.keep_last.data is None:
        raise InvalidInput("the number of databases to keep must be a whole number")
    values = {"task": task, "keep_last": form.keep_last.data}
    return texts | values | (heartbeat if is_told else {})


def _consent_in(form: ScheduleForm) -> Consent:
    """What the form says about a database that the schedule did not make."""
    return Consent(form.confirm.data or "", confirming(form))


def _form(
    form: ScheduleForm,
    schedule_id: str = "",
    *,
    error: AppError | None = None,
    preview: Preview | None = None,
) -> str:
    common = {
        "form": form,
        "error": error,
        "preview": preview,
        "tasks": list(Task),
        "zones": list_zones(),
    }
    if not schedule_id:
        return render_template("schedules/new.html", database=chosen_database(), **common)
    firings = service.list_firings(schedule_id)
    schedule = service.get_schedule(schedule_id)
    return render_template(
        "schedules/show.html",
        schedule=schedule,
        words=cron_text(schedule.cron),
        times=reading.list_next_times(schedule),
        firings=firings,
        backups=reading.backups_of(firings),
        restores=reading.restores_of(firings),
        **common,
    )
