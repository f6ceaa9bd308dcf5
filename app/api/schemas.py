"""What the API takes: bodies and queries, checked."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from flask import request
from marshmallow import RAISE, Schema, ValidationError, fields, validate
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from app.errors import InvalidInput
from app.models import Kind, Status, Task
from app.services.audit.search import MAX_LIMIT as MAX_ENTRIES
from app.services.backups.listing import MAX_LIMIT
from app.services.restores.service import MAX_LIMIT as MAX_RESTORES
from app.services.restores.tables import MAX_LIMIT as MAX_TABLES
from app.services.restores.tables import SORTS
from app.services.retention.periods import length_of

MAX_PLAN = 100_000  # backups in one answer


def _places(name: str) -> fields.Integer:
    return fields.Integer(strict=True, load_default=None, allow_none=True, data_key=name)


class _Flag(fields.Field[bool]):
    """Exactly true or false: too much hangs on it for a guess."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Not true or false.")
        return value


class NewBackupSchema(Schema):
    """The body of a request for a backup."""

    notes = fields.String(load_default="", allow_none=False)


class NewUploadSchema(Schema):
    """The body of a request for an upload."""

    name = fields.String(load_default="", validate=validate.Length(max=255))
    size = fields.Integer(required=True, strict=True, validate=validate.Range(0, 2**62))
    notes = fields.String(load_default="")


class NotesSchema(Schema):
    """The body of a change to a backup."""

    notes = fields.String(required=True)


class SettingsSchema(Schema):
    """The body of an import of settings."""

    settings = fields.Dict(keys=fields.String(), required=True)
    exact = _Flag(load_default=False)
    dry_run = _Flag(load_default=False, data_key="dryRun")


class NothingSchema(Schema):
    """The body of a request that says everything by its address."""


class ConfirmedSchema(Schema):
    """The body of what takes the password once more."""

    password = fields.String(load_default="")


class TableSchema(Schema):
    """A table by its name."""

    schema = fields.String(required=True)
    name = fields.String(required=True)


class NewRestoreSchema(ConfirmedSchema):
    """The body of a request for a restore; over the living database with the password."""

    mode = fields.Enum(Kind, by_value=True, required=True, validate=validate.NoneOf([Kind.DRILL]))
    into = fields.String(load_default="")
    confirm = fields.String(load_default="")
    confirm_superuser = _Flag(load_default=False, data_key="confirmSuperuser")
    tables = fields.List(
        fields.Nested(TableSchema), load_default=list, validate=validate.Length(max=MAX_TABLES)
    )


class ContentsSchema(Schema):
    """The query of a list of tables."""

    q = fields.String(load_default="")
    sort = fields.String(load_default="name", validate=validate.OneOf(SORTS))
    limit = fields.Integer(load_default=100, validate=validate.Range(1, MAX_TABLES))
    offset = fields.Integer(load_default=0, validate=validate.Range(0))


class PreviewSchema(Schema):
    """The query of a look at a restore, before it is asked for."""

    mode = fields.Enum(Kind, by_value=True, required=True)
    into = fields.String(load_default="")


class RestoreListSchema(Schema):
    """The query of a list of restores."""

    filename = fields.String(load_default="")
    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_RESTORES))


class NewAssertionSchema(Schema):
    """The body of a request for an assertion."""

    name = fields.String(required=True)
    statement = fields.String(required=True)


class AssertionChangeSchema(Schema):
    """The body of a change to an assertion; what is absent stays."""

    name = fields.String()
    statement = fields.String()


class AuditExportSchema(Schema):
    """The query of an export of the audit."""

    actor = fields.String(load_default="")
    action = fields.String(load_default="")
    outcome = fields.String(load_default="")
    since = fields.String(load_default="", data_key="from", attribute="from")
    until = fields.String(load_default="", data_key="to", attribute="to")
    q = fields.String(load_default="")


class AuditSchema(AuditExportSchema):
    """The query of a list of what was done."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_ENTRIES))
    before = fields.String(load_default=None)


class NotifierChangeSchema(Schema):
    """The body of a change to a notifier; what is absent stays."""

    name = fields.String()
    url = fields.String()
    facts = fields.List(fields.String(), allow_none=True, validate=validate.Length(max=100))
    title = fields.String()
    body = fields.String()
    enabled = _Flag()


class NewNotifierSchema(NotifierChangeSchema):
    """The body of a request for a notifier."""

    name = fields.String(required=True)
    url = fields.String(required=True)


class ScheduleChangeSchema(Schema):
    """The body of a change to a schedule; what is absent stays."""

    name = fields.String()
    task = fields.Enum(Task, by_value=True)
    cron = fields.String()
    timezone = fields.String()
    notes = fields.String()
    enabled = _Flag()
    heartbeat_url = fields.String(data_key="heartbeatUrl")


class NewScheduleSchema(ScheduleChangeSchema):
    """The body of a request for a schedule."""

    name = fields.String(required=True)
    task = fields.Enum(Task, by_value=True, required=True)
    cron = fields.String(required=True)


class SchedulePreviewSchema(Schema):
    """The query of a look at a schedule, before it is asked for."""

    cron = fields.String(required=True)
    timezone = fields.String(load_default="UTC")


class LimitSchema(Schema):
    """The query of a list that has no more to it."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, 200))


class AlarmListSchema(LimitSchema):
    """The query of a list of alarms."""

    is_open = fields.Boolean(load_default=None, data_key="open", truthy={"true"}, falsy={"false"})


class CredentialsSchema(Schema):
    """The body of a sign-in."""

    username = fields.String(required=True)
    password = fields.String(required=True)


class PasswordChangeSchema(Schema):
    """The body of a change of one's own password."""

    password = fields.String(required=True)
    new_password = fields.String(required=True, data_key="newPassword")


class PinSchema(Schema):
    """The body of a pin."""

    reason = fields.String(required=True)


class _Length(fields.Field[timedelta]):
    def _deserialize(self, value: Any, *_: Any, **__: Any) -> timedelta:
        try:
            return length_of(value if isinstance(value, str) else "")
        except InvalidInput as error:
            raise ValidationError(f"{error.hint}") from error


class RetentionSchema(Schema):
    """The body of a retention policy; what is absent or null asks nothing."""

    keep_last = _places("keepLast")
    keep_hourly = _places("keepHourly")
    keep_daily = _places("keepDaily")
    keep_weekly = _places("keepWeekly")
    keep_monthly = _places("keepMonthly")
    keep_yearly = _places("keepYearly")
    keep_within = _Length(load_default=None, allow_none=True, data_key="keepWithin")
    max_total_size = fields.Integer(
        strict=True, load_default=None, allow_none=True, data_key="maxTotalSize"
    )
    time_zone = fields.String(load_default="UTC", data_key="timeZone")


class PlanSchema(Schema):
    """The query of a look at what retention would do."""

    limit = fields.Integer(load_default=1000, validate=validate.Range(0, MAX_PLAN))


class PruneSchema(Schema):
    """The body of a prune."""

    dry_run = _Flag(load_default=False, data_key="dryRun")


class ListSchema(Schema):
    """The query of a list."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_LIMIT))
    before = fields.String(load_default=None)
    status = fields.Enum(Status, by_value=True, load_default=None)
    q = fields.String(load_default="")


def read_body(schema: Schema) -> dict[str, Any]:
    """The request's JSON body, checked; an absent body is an empty object.

    Raises UnsupportedMediaType, BadRequest, InvalidInput.
    """
    raw = request.get_data()
    if not raw:
        return _checked(schema, {})
    if not request.is_json:
        raise UnsupportedMediaType("Send the body as JSON: Content-Type: application/json.")
    try:
        content = request.get_json()
    except (BadRequest, RecursionError) as error:
        raise BadRequest("The body is not JSON that can be read.") from error
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except ValueError as error:
        raise InvalidInput("the body has characters that are only half there") from error
    if not isinstance(content, dict):
        raise InvalidInput("the body must be a JSON object")
    return _checked(schema, content)


def read_query(schema: Schema) -> dict[str, Any]:
    """The request's query, checked. Raises InvalidInput."""
    return _checked(schema, request.args.to_dict())


def _checked(schema: Schema, content: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = schema.load(content, unknown=RAISE)
    except ValidationError as error:
        told = [f"{name}: {' '.join(_texts(of))}" for name, of in error.messages_dict.items()]
        raise InvalidInput("the request is not right", detail=" ".join(told)) from error
    return found


def _texts(messages: Any) -> Iterator[str]:
    """What is wrong with a value, or with those within it."""
    if isinstance(messages, dict):
        for each in messages.values():
            yield from _texts(each)
    else:
        yield from messages
