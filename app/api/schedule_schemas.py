"""The bodies and queries of calls about schedules."""

from marshmallow import Schema, fields

from app.api.schemas import DatabaseQuerySchema, Flag
from app.models import Task


class ScheduleChangeSchema(Schema):
    """The body of a change to a schedule; absent values stay.

    The last two let it replace a database that it did not make.
    """

    name = fields.String()
    task = fields.Enum(Task, by_value=True)
    cron = fields.String()
    timezone = fields.String()
    notes = fields.String()
    enabled = Flag()
    heartbeat_url = fields.String(data_key="heartbeatUrl")
    target = fields.String()
    sql = fields.String()
    keep_last = fields.Integer(data_key="keepLast")
    confirm = fields.String(load_default="")
    password = fields.String(load_default="")


class NewScheduleSchema(ScheduleChangeSchema, DatabaseQuerySchema):
    """The body of a request for a schedule."""

    name = fields.String(required=True)
    task = fields.Enum(Task, by_value=True, required=True)
    cron = fields.String(required=True)


class SchedulePreviewSchema(Schema):
    """The query of the preview of a schedule."""

    cron = fields.String(required=True)
    timezone = fields.String(load_default="UTC")
