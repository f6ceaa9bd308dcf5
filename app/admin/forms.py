"""The forms of the pages; the rules about their values are the services'."""

from typing import Any

from flask import request
from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    IntegerField,
    PasswordField,
    SelectMultipleField,
    StringField,
    SubmitField,
    TextAreaField,
)
from wtforms.validators import AnyOf, InputRequired, Length, Optional
from wtforms.widgets import PasswordInput

from app.models import Fact, Kind, Task
from app.services.access.admins import MAX_USERNAME
from app.services.access.passwords import MAX_LENGTH
from app.services.alerts import heartbeats, notifiers
from app.services.audit.acting import refuse
from app.services.backups.manifests import MAX_NOTES, MAX_PIN_REASON
from app.services.proofs.assertions import MAX_NAME, MAX_STATEMENT
from app.services.retention.policies import MAX_PLACES
from app.services.schedules import service as schedules
from app.services.schedules.times import MAX_CRON
from app.wording import _l

NAME = {"required": True, "maxlength": 63, "autocapitalize": "none", "spellcheck": False}
_MODES = [kind.value for kind in Kind if kind not in (Kind.DRILL, Kind.REFRESH)]


class Form(FlaskForm):  # type: ignore[misc]  # flask_wtf has no types
    """The base of all forms: their values are text from a form's fields.

    Flask-WTF would take files and JSON as well, where each field expects text.
    """

    def __init__(self, **values: Any) -> None:
        if request.method == "POST":
            values.setdefault("formdata", request.form or None)
        super().__init__(**{"formdata": None} | values)

    def validate(self, *args: Any, **more: Any) -> bool:
        """For the audit: a form that comes back says which of its fields are not valid."""
        is_valid = bool(super().validate(*args, **more))
        if not is_valid:
            refuse(f"not valid: {', '.join(self.errors)}")
        return is_valid


class SignInForm(Form):
    """Sign in."""

    username = StringField(
        _l("Username"),
        validators=[InputRequired(), Length(max=MAX_USERNAME)],
        render_kw={"autocomplete": "username", "autofocus": True, "autocapitalize": "none"},
    )
    password = PasswordField(
        _l("Password"),
        validators=[InputRequired(), Length(max=MAX_LENGTH)],
        render_kw={"autocomplete": "current-password"},
    )
    submit = SubmitField(_l("Sign in"))


class NotesForm(Form):
    """The notes of a backup, new or old."""

    notes = TextAreaField(
        _l("Notes"),
        render_kw={
            "rows": 2,
            "maxlength": MAX_NOTES,
            "placeholder": _l("Optional, for example: before the 2.4 migration"),
        },
    )


class DatabaseForm(Form):
    """A database to guard, or its changes."""

    name = StringField(render_kw=NAME)
    # Shown again after a test, to the person who entered it; never the stored one.
    url = PasswordField(
        _l("Connection URL"),
        widget=PasswordInput(hide_value=False),
        render_kw={"autocomplete": "off", "spellcheck": False},
    )
    ssh_url = StringField(
        _l("SSH host on the way"), render_kw={"placeholder": "ssh://backstop@bastion.example.com"}
    )
    ssh_identity_file = StringField(_l("File of the private key for it, on this machine"))
    ssh_host_key = StringField(
        _l("Public key of that host"), render_kw={"placeholder": "ssh-ed25519 AAAA…"}
    )
    compression = StringField(
        _l("Compression"), render_kw={"placeholder": _l("as the panel, for example zstd:3")}
    )
    without_rows_of = TextAreaField(
        _l("Tables whose rows are left out"),
        render_kw={"rows": 2, "placeholder": _l("one a line, for example public.events")},
    )
    dump_jobs = StringField(
        _l("Tables that are dumped at once"),
        render_kw={"inputmode": "numeric", "placeholder": _l("as the panel, for example 4")},
    )
    skips_counting = BooleanField(_l("Do not count the rows beside the dump"))
    max_age = StringField(
        _l("Alarm if the newest good backup is older than"),
        render_kw={"placeholder": _l("as the panel, for example 26h")},
    )


class AssertionForm(Form):
    """What must be true in a restored database."""

    name = StringField(render_kw={"autocomplete": "off", "maxlength": MAX_NAME, "required": True})
    statement = TextAreaField(
        render_kw={
            "rows": 4,
            "maxlength": MAX_STATEMENT,
            "required": True,
            "spellcheck": "false",
            "placeholder": "SELECT count(*) > 0 FROM orders",
        },
    )


class SettingsForm(Form):
    """All settings as one text: preview what it would change, or save it."""

    text = TextAreaField(
        render_kw={"rows": 16, "spellcheck": "false", "autocapitalize": "none"},
    )
    exact = BooleanField()
    keep = BooleanField()


class NotifierForm(Form):
    """Where messages go, which ones, and their texts."""

    name = StringField(
        render_kw={"autocomplete": "off", "maxlength": notifiers.MAX_NAME, "required": True}
    )
    url = PasswordField(
        render_kw={
            "autocomplete": "off",
            "maxlength": notifiers.MAX_URL,
            "spellcheck": "false",
            "aria-describedby": "url-help",
        }
    )
    every_alarm = BooleanField(_l("Every alarm, including kinds added later"), default=True)
    facts = SelectMultipleField(
        choices=[fact.value for fact in Fact],  # type: ignore[misc]  # the stubs are behind
        validate_choice=False,
    )
    title = StringField(
        _l("Title"),
        render_kw={"maxlength": notifiers.MAX_TITLE, "placeholder": "Backstop: $title"},
    )
    body = TextAreaField(
        _l("Text"),
        render_kw={"rows": 3, "maxlength": notifiers.MAX_BODY, "placeholder": "$text\n$time"},
    )
    enabled = BooleanField(_l("Switched on"), default=True)


class ScheduleForm(Form):
    """Which task runs when."""

    name = StringField(
        render_kw={"autocomplete": "off", "maxlength": schedules.MAX_NAME, "required": True}
    )
    task = StringField(default=Task.BACKUP.value)
    cron = StringField(
        render_kw={
            "autocomplete": "off",
            "autocapitalize": "none",
            "spellcheck": "false",
            "maxlength": MAX_CRON,
            "required": True,
            "placeholder": "0 3 * * *",
        }
    )
    timezone = StringField(
        default="UTC", render_kw={"autocomplete": "off", "spellcheck": "false", "required": True}
    )
    notes = TextAreaField(
        render_kw={"rows": 2, "maxlength": MAX_NOTES, "placeholder": "Optional: {schedule}"}
    )
    # Shown again after a check, to the person who entered it; never the stored one.
    heartbeat_url = PasswordField(
        widget=PasswordInput(hide_value=False),
        render_kw={
            "autocomplete": "off",
            "maxlength": heartbeats.MAX_URL,
            "spellcheck": "false",
            "aria-describedby": "heartbeat-help",
        },
    )
    no_heartbeat = BooleanField(_l("Remove the monitor"))


class PasswordForm(Form):
    """Enter one's password again."""

    password = PasswordField(
        _l("Your password"),
        render_kw={"autocomplete": "current-password", "maxlength": MAX_LENGTH},
    )


_NEW = {
    "autocomplete": "new-password",
    "maxlength": MAX_LENGTH,
    "aria-describedby": "password-help",
}


class PasswordChangeForm(PasswordForm):
    """One's own password, old and new."""

    new = PasswordField(_l("New password"), render_kw=_NEW)
    again = PasswordField(_l("New password once more"), render_kw=_NEW)


class RestoreForm(PasswordForm):
    """Restore a backup: where, and for a replace who says so."""

    mode = StringField(
        default=Kind.BESIDE.value,
        validators=[AnyOf(_MODES, message=_l("Choose one of them."))],
    )
    into = StringField(
        _l("Name of the new database"),
        render_kw={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"},
    )
    tables = TextAreaField(
        _l("These tables only"),
        render_kw={
            "rows": 3,
            "spellcheck": "false",
            "autocapitalize": "none",
            "placeholder": _l("All; or one a line, such as public.orders or crm.*"),
        },
    )
    confirm = StringField(render_kw={"autocomplete": "off", "autocapitalize": "none"})
    superuser = BooleanField()


class PinForm(Form):
    """Pin a backup."""

    reason = StringField(
        _l("Reason"),
        render_kw={
            "autocomplete": "off",
            "maxlength": MAX_PIN_REASON,
            "placeholder": _l("For example: the state for the audit of 2025"),
        },
    )


_PLACES = {"min": 0, "max": MAX_PLACES, "inputmode": "numeric"}
_SHORT = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


class RetentionForm(Form):
    """Which backups are kept."""

    keep_last = IntegerField(_l("Keep last"), validators=[Optional()], render_kw=_PLACES)
    keep_hourly = IntegerField(_l("Hourly"), validators=[Optional()], render_kw=_PLACES)
    keep_daily = IntegerField(_l("Daily"), validators=[Optional()], render_kw=_PLACES)
    keep_weekly = IntegerField(_l("Weekly"), validators=[Optional()], render_kw=_PLACES)
    keep_monthly = IntegerField(_l("Monthly"), validators=[Optional()], render_kw=_PLACES)
    keep_yearly = IntegerField(_l("Yearly"), validators=[Optional()], render_kw=_PLACES)
    keep_within = StringField(_l("Keep within"), render_kw=_SHORT | {"placeholder": "30d"})
    max_total_size = StringField(_l("Size limit"), render_kw=_SHORT | {"placeholder": "500 GiB"})
    time_zone = StringField(_l("Time zone"), default="UTC", render_kw=_SHORT)


class DropKeptForm(PasswordForm):
    """Confirm by name and password that a kept database is dropped."""

    name = StringField(render_kw={"autocomplete": "off", "autocapitalize": "none"})


class DropForm(Form):
    """Confirm a removal by name."""

    name = StringField(render_kw={"autocomplete": "off", "autocapitalize": "none"})
