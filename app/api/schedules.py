"""Schedules and their runs as JSON."""

from flask import Blueprint, jsonify, url_for
from flask.typing import ResponseReturnValue

from app.api.parsing import read_body, read_query
from app.api.schemas import (
    DatabaseQuerySchema,
    LimitSchema,
    NewScheduleSchema,
    NothingSchema,
    ScheduleChangeSchema,
    SchedulePreviewSchema,
)
from app.auth import signed_in_admin
from app.models import Schedule
from app.schemas.schedules import firing_row, schedule_details, schedule_preview, schedule_rows
from app.services.databases.lookup import choose_database
from app.services.schedules import service, times

blueprint = Blueprint("schedules", __name__, url_prefix="/schedules")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """All of a database, by name."""
    database = choose_database(read_query(DatabaseQuerySchema())["database"])
    found = service.list_schedules(database)
    return jsonify({"schedules": schedule_rows(found, service.last_firings(found))})


@blueprint.get("/preview")
def preview() -> ResponseReturnValue:
    """A cron expression in words, and its next times."""
    return schedule_preview(*times.preview_times(**read_query(SchedulePreviewSchema())))


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Make one."""
    body, by = read_body(NewScheduleSchema()), signed_in_admin().username
    database = choose_database(body.pop("database"))
    created = service.add_schedule(service.NewSchedule(**body), of=database, created_by=by)
    answer = {
        "success": True,
        "schedule": _details(created),
        "message": f"Schedule {created.name} created",
    }
    return answer, 201, {"Location": url_for(".show", schedule_id=created.id)}


@blueprint.get("/<schedule_id>")
def show(schedule_id: str) -> ResponseReturnValue:
    """One, with its next times."""
    return _details(service.get_schedule(schedule_id))


@blueprint.patch("/<schedule_id>")
def update(schedule_id: str) -> ResponseReturnValue:
    """Change what is given."""
    edited = service.edit_schedule(
        schedule_id,
        service.ScheduleChanges(**read_body(ScheduleChangeSchema())),
        by=signed_in_admin().username,
    )
    return {"success": True, "schedule": _details(edited)}


@blueprint.delete("/<schedule_id>")
def delete(schedule_id: str) -> ResponseReturnValue:
    """Delete it."""
    read_body(NothingSchema())
    service.remove_schedule(schedule_id, by=signed_in_admin().username)
    return {"success": True, "message": "Schedule deleted"}


@blueprint.post("/<schedule_id>/run")
def run(schedule_id: str) -> ResponseReturnValue:
    """Run it now."""
    read_body(NothingSchema())
    firing = service.run_now(schedule_id, by=signed_in_admin().username)
    message = "A worker will run it within 10 seconds"
    return {"success": True, "firing": firing_row(firing), "message": message}, 202


@blueprint.get("/<schedule_id>/firings")
def list_firings(schedule_id: str) -> ResponseReturnValue:
    """The newest runs."""
    found = service.list_firings(schedule_id, **read_query(LimitSchema()))
    return jsonify({"firings": [firing_row(firing) for firing in found]})


def _details(schedule: Schedule) -> dict[str, object]:
    last = service.list_firings(schedule.id, limit=1)
    return schedule_details(schedule, last[0] if last else None)
