"""The form of a schedule, with what a scheduled restore needs."""

from wtforms import IntegerField, StringField, TextAreaField

from app.admin.forms import PasswordForm, ScheduleForm
from app.services.schedules.targets import MAX_KEPT, MAX_SQL
from app.wording import _l

_NAME = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false", "maxlength": 63}


class AnyScheduleForm(ScheduleForm, PasswordForm):
    """Which task runs when, and what a restore makes."""

    target = StringField(
        _l("Database to make"),
        render_kw=_NAME | {"placeholder": "shop_staging", "aria-describedby": "target-help"},
    )
    sql = TextAreaField(
        _l("SQL to run in it first"),
        render_kw={
            "rows": 5,
            "maxlength": MAX_SQL,
            "spellcheck": "false",
            "autocapitalize": "none",
            "placeholder": "UPDATE customers SET email = id || '@example.org';",
            "aria-describedby": "sql-help",
        },
    )
    keep_last = IntegerField(
        _l("Replaced databases to keep"),
        default=1,
        render_kw={"min": 0, "max": MAX_KEPT, "aria-describedby": "keep-last-help"},
    )
    confirm = StringField(_l("Its name again"), render_kw=_NAME)
