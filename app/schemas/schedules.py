"""Schedules and their due times as JSON."""

from datetime import datetime
from typing import Any

from marshmallow import fields

from app.models import Firing, Outcome, Schedule, Task
from app.models.types import moment_text
from app.schemas.base import CamelCase, Moment, row_of
from app.services.schedules import listing as schedule_listing
from app.services.schedules.times import in_words


class ScheduleSchema(CamelCase):
    """A schedule as the API shows it."""

    id = fields.String()
    name = fields.String()
    task = fields.Enum(Task, by_value=True)
    cron = fields.String()
    timezone = fields.String()
    words = fields.Function(lambda schedule: in_words(schedule.cron), metadata={"type": "string"})
    notes = fields.String()
    target = fields.String()
    sql = fields.String()
    keep_last = fields.Integer()
    enabled = fields.Boolean()
    has_heartbeat = fields.Function(
        lambda schedule: bool(schedule.heartbeat), metadata={"type": "boolean"}
    )
    next_due_at = Moment(allow_none=True)
    server = fields.String(attribute="database.server")
    database = fields.String(attribute="database.name")
    created_at = Moment()
    created_by = fields.String()


class FiringSchema(CamelCase):
    """A due time of a schedule as the API shows it."""

    due_at = Moment()
    outcome = fields.Enum(Outcome, by_value=True)
    attempts = fields.Integer()
    missed = fields.Integer()
    missed_since = Moment(allow_none=True)
    told = fields.String()
    finished_at = Moment(allow_none=True)
    job_id = fields.String(allow_none=True)


def schedule_rows(schedules: list[Schedule], last: dict[str, Firing]) -> list[dict[str, Any]]:
    """Schedules, and the last due time of each."""
    rows, fired = ScheduleSchema(many=True).dump(schedules), FiringSchema()
    return [
        row | {"lastFiring": fired.dump(last[row["id"]]) if row["id"] in last else None}
        for row in rows
    ]


def schedule_details(schedule: Schedule, last: Firing | None) -> dict[str, Any]:
    """A schedule, and its next due times."""
    (row,) = schedule_rows([schedule], {schedule.id: last} if last else {})
    times = schedule_listing.list_next_times(schedule)
    return row | {"nextTimes": [moment_text(moment) for moment in times]}


def firing_row(firing: Firing) -> dict[str, Any]:
    """A due time, and its outcome."""
    return row_of(FiringSchema(), firing)


def schedule_preview(words: str, times: list[datetime]) -> dict[str, Any]:
    """A schedule before it is saved: in words, and its next times."""
    return {"words": words, "nextTimes": [moment_text(moment) for moment in times]}
