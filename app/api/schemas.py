"""The schemas of the bodies and queries that the API takes."""

from datetime import timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from app.errors import InvalidInput
from app.models import Kind
from app.services.audit.search import MAX_LIMIT as MAX_ENTRIES
from app.services.backups.filters import CHOICES
from app.services.backups.listing import MAX_LIMIT
from app.services.restores.service import MAX_LIMIT as MAX_RESTORES
from app.services.restores.tables import MAX_LIMIT as MAX_TABLES
from app.services.restores.tables import SORTS
from app.services.retention.periods import length_of
from app.viewer import LANGUAGES

MAX_PLAN = 100_000  # backups in one answer


def _number(name: str) -> fields.Integer:
    return fields.Integer(strict=True, load_default=None, allow_none=True, data_key=name)


def _choice(name: str) -> fields.String:
    return fields.String(validate=validate.OneOf(CHOICES[name]))


class Flag(fields.Boolean):
    """Exactly true or false: this is too important to guess."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Not true or false.")
        return value


class DatabaseQuerySchema(Schema):
    """A query or body that may name a database; empty: the default one."""

    database = fields.String(load_default="")


class RetentionQuerySchema(DatabaseQuerySchema):
    """A query or body that may name a store as well; empty: the backups here."""

    store = fields.String(load_default="")


class NewBackupSchema(DatabaseQuerySchema):
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
    exact = Flag(load_default=False)
    dry_run = Flag(load_default=False, data_key="dryRun")


class NothingSchema(Schema):
    """The body of a request that needs none."""


class ConfirmedSchema(Schema):
    """The body of a request that needs the password again."""

    password = fields.String(load_default="")


class TableSchema(Schema):
    """A table by its name."""

    schema = fields.String(required=True)
    name = fields.String(required=True)


class NewRestoreSchema(ConfirmedSchema):
    """The body of a request for a restore; over the live database with the password."""

    mode = fields.Enum(
        Kind, by_value=True, required=True, validate=validate.NoneOf([Kind.DRILL, Kind.REFRESH])
    )
    to = fields.String(load_default="")  # a database, by its name
    into = fields.String(load_default="")
    confirm = fields.String(load_default="")
    confirm_superuser = Flag(load_default=False, data_key="confirmSuperuser")
    tables = fields.List(
        fields.Nested(TableSchema), load_default=list, validate=validate.Length(max=MAX_TABLES)
    )


class ContentsSchema(Schema):
    """The query of a list of tables."""

    q = fields.String(load_default="")
    sort = fields.String(load_default="name", validate=validate.OneOf(SORTS))
    limit = fields.Integer(load_default=100, validate=validate.Range(1, MAX_TABLES))
    offset = fields.Integer(load_default=0, validate=validate.Range(0))


class ComparisonSchema(Schema):
    """The query of a comparison; empty: with the last full backup before it."""

    earlier = fields.String(load_default="")


class PreviewSchema(Schema):
    """The query of the preview of a restore."""

    mode = fields.Enum(Kind, by_value=True, required=True, validate=validate.NoneOf([Kind.REFRESH]))
    to = fields.String(load_default="")
    into = fields.String(load_default="")


class RestoreListSchema(Schema):
    """The query of a list of restores."""

    filename = fields.String(load_default="")
    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_RESTORES))


class NewAssertionSchema(DatabaseQuerySchema):
    """The body of a request for an assertion."""

    name = fields.String(required=True)
    statement = fields.String(required=True)


class AssertionChangeSchema(Schema):
    """The body of a change to an assertion; absent values stay."""

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
    """The query of a list of audit entries."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_ENTRIES))
    before = fields.String(load_default=None)


class NotifierChangeSchema(Schema):
    """The body of a change to a notifier; absent values stay."""

    name = fields.String()
    url = fields.String()
    facts = fields.List(fields.String(), allow_none=True, validate=validate.Length(max=100))
    title = fields.String()
    body = fields.String()
    enabled = Flag()


class NewNotifierSchema(NotifierChangeSchema):
    """The body of a request for a notifier."""

    name = fields.String(required=True)
    url = fields.String(required=True)


class LimitSchema(Schema):
    """The query of a list with nothing but a limit."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, 200))


class AlarmListSchema(LimitSchema):
    """The query of a list of alarms."""

    is_open = fields.Boolean(load_default=None, data_key="open", truthy={"true"}, falsy={"false"})


class CredentialsSchema(Schema):
    """The body of a sign-in."""

    username = fields.String(required=True)
    password = fields.String(required=True)


class PasswordChangeSchema(Schema):
    """The body of a change of password."""

    password = fields.String(required=True)
    new_password = fields.String(required=True, data_key="newPassword")


class PreferencesSchema(Schema):
    """The body of a change of one's preferences; what is absent stays."""

    time_zone = fields.String(data_key="timeZone")
    language = fields.String(validate=validate.OneOf(["", *LANGUAGES]))


class PinSchema(Schema):
    """The body of a pin."""

    reason = fields.String(required=True)


class _Length(fields.Field[timedelta]):
    def _deserialize(self, value: Any, *_: Any, **__: Any) -> timedelta:
        try:
            return length_of(value if isinstance(value, str) else "")
        except InvalidInput as error:
            raise ValidationError(f"{error.hint}") from error


class RetentionSchema(RetentionQuerySchema):
    """The body of a retention policy; absent or null means no rule."""

    keep_last = _number("keepLast")
    keep_hourly = _number("keepHourly")
    keep_daily = _number("keepDaily")
    keep_weekly = _number("keepWeekly")
    keep_monthly = _number("keepMonthly")
    keep_yearly = _number("keepYearly")
    keep_within = _Length(
        load_default=None, allow_none=True, data_key="keepWithin", metadata={"type": "string"}
    )
    max_total_size = fields.Integer(
        strict=True, load_default=None, allow_none=True, data_key="maxTotalSize"
    )
    time_zone = fields.String(load_default="UTC", data_key="timeZone")


class PlanSchema(RetentionQuerySchema):
    """The query of the preview of a prune."""

    limit = fields.Integer(load_default=1000, validate=validate.Range(0, MAX_PLAN))


class PruneSchema(RetentionQuerySchema):
    """The body of a prune."""

    dry_run = Flag(load_default=False, data_key="dryRun")


class ListSchema(DatabaseQuerySchema):
    """The query of a list of backups."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_LIMIT))
    before = fields.String(load_default=None)
    status = _choice("status")
    proof = _choice("proof")
    trigger = _choice("trigger")
    pinned = _choice("pinned")
    copy = _choice("copy")
    sort = _choice("sort")
    since = fields.String(load_default="", data_key="from", attribute="from")
    until = fields.String(load_default="", data_key="to", attribute="to")
    q = fields.String(load_default="")
