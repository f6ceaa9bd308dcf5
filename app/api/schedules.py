"""Schedules and their runs as JSON."""

from flask import Blueprint, jsonify, url_for
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call, success
from app.api.schedule_schemas import (
    NewScheduleSchema,
    ScheduleChangeSchema,
    SchedulePreviewSchema,
)
from app.api.schemas import (
    DatabaseQuerySchema,
    LimitSchema,
    NothingSchema,
)
from app.api.shapes import SCHEDULE, SCHEDULE_DETAILS
from app.auth import confirming, signed_in_admin
from app.models import Schedule
from app.schemas.schedules import (
    FiringSchema,
    firing_row,
    schedule_details,
    schedule_preview,
    schedule_rows,
)
from app.services.databases.lookup import choose_database
from app.services.schedules import service, times
from app.services.schedules.targets import Consent

blueprint = Blueprint("schedules", __name__, url_prefix="/schedules")


@blueprint.get("")
@call({200: {"schedules": [SCHEDULE]}}, query=DatabaseQuerySchema)
def index(query: Values) -> ResponseReturnValue:
    """All of a database, by name."""
    database = choose_database(query["database"])
    schedules = service.list_schedules(database)
    return jsonify({"schedules": schedule_rows(schedules, service.last_firings(schedules))})


@blueprint.get("/preview")
@call({200: {"words": str, "nextTimes": [str]}}, query=SchedulePreviewSchema)
def preview(query: Values) -> ResponseReturnValue:
    """A cron expression in words, and its next times."""
    return schedule_preview(*times.preview_times(**query))


@blueprint.post("")
@call(
    {201: success(schedule=SCHEDULE_DETAILS, message=str)},
    body=NewScheduleSchema,
    refusals=[409, 429],
)
def create(body: Values) -> ResponseReturnValue:
    """Make one."""
    by = signed_in_admin().username
    database = choose_database(body.pop("database"))
    consent = _consent_in(body)
    new = service.NewSchedule(**body)
    created = service.add_schedule(new, of=database, created_by=by, consent=consent)
    answer = {
        "success": True,
        "schedule": _details(created),
        "message": f"Schedule {created.name} created",
    }
    return answer, 201, {"Location": url_for(".show", schedule_id=created.id)}


@blueprint.get("/<schedule_id>")
@call({200: SCHEDULE_DETAILS})
def show(schedule_id: str) -> ResponseReturnValue:
    """One, with its next times."""
    return _details(service.get_schedule(schedule_id))


@blueprint.patch("/<schedule_id>")
@call({200: success(schedule=SCHEDULE_DETAILS)}, body=ScheduleChangeSchema, refusals=[409, 429])
def update(schedule_id: str, body: Values) -> ResponseReturnValue:
    """Change what is given."""
    consent = _consent_in(body)
    edited = service.edit_schedule(
        schedule_id,
        service.ScheduleChanges(**body),
        by=signed_in_admin().username,
        consent=consent,
    )
    return {"success": True, "schedule": _details(edited)}


@blueprint.delete("/<schedule_id>")
@call({200: success(message=str)}, body=NothingSchema)
def delete(schedule_id: str) -> ResponseReturnValue:
    """Delete it."""
    service.remove_schedule(schedule_id, by=signed_in_admin().username)
    return {"success": True, "message": "Schedule deleted"}


@blueprint.post("/<schedule_id>/run")
@call({202: success(firing=FiringSchema, message=str)}, body=NothingSchema, refusals=[409])
def run(schedule_id: str) -> ResponseReturnValue:
    """Run it now."""
    firing = service.run_now(schedule_id, by=signed_in_admin().username)
    message = "A worker will run it within 10 seconds"
    return {"success": True, "firing": firing_row(firing), "message": message}, 202


@blueprint.get("/<schedule_id>/firings")
@call({200: {"firings": [FiringSchema]}}, query=LimitSchema)
def list_firings(schedule_id: str, query: Values) -> ResponseReturnValue:
    """The newest runs."""
    firings = service.list_firings(schedule_id, **query)
    return jsonify({"firings": [firing_row(firing) for firing in firings]})


def _consent_in(body: Values) -> Consent:
    """What the body says about a database that the schedule did not make; taken out of it."""
    return Consent(body.pop("confirm"), confirming(body.pop("password")))


def _details(schedule: Schedule) -> dict[str, object]:
    last = service.list_firings(schedule.id, limit=1)
    return schedule_details(schedule, last[0] if last else None)
