"""The form of a store."""

from flask_babel.speaklater import LazyString
from wtforms import BooleanField, SelectField, SelectMultipleField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # new

from app.admin.forms import NAME, Form
from app.models import ReadBack, TakesCatalogue
from app.services.stores.service import MAX_URL
from app.wording import _l, said


def _choice(member: ReadBack | TakesCatalogue) -> SelectChoice:
    return SelectChoice(member.value, LazyString(said, member.value))


class StoreForm(Form):
    """A store of copies, or its changes."""

    name = StringField(render_kw=NAME)
    url = StringField(
        "URL",
        render_kw={
            "required": True,
            "maxlength": MAX_URL,
            "autocapitalize": "none",
            "autocomplete": "off",
            "spellcheck": "false",
        },
    )
    # Shown again after a test, to the person who entered them; never the stored ones.
    credentials = TextAreaField(
        _l("Credentials"),
        render_kw={"rows": 3, "autocomplete": "off", "spellcheck": "false"},
    )
    no_credentials = BooleanField(_l("Forget the stored ones"))
    recipients = TextAreaField(
        _l("Encrypt to these public keys"),
        render_kw={"rows": 2, "spellcheck": "false", "placeholder": _l("one a line, age1…")},
    )
    all_databases = BooleanField(_l("All databases, also later ones"), default=True)
    databases = SelectMultipleField(validate_choice=False)
    read_back = SelectField(
        _l("Read back new copies"),
        choices=[_choice(member) for member in ReadBack],
        validate_choice=False,
    )
    catalogue = SelectField(
        _l("Export the panel's own catalogue"),
        choices=[_choice(member) for member in TakesCatalogue],
        validate_choice=False,
    )
    limit = StringField(
        _l("Limit in a second"), render_kw={"placeholder": _l("none, for example 10MB")}
    )
    untested = BooleanField(_l("Save it without asking the store"))
    take_over = BooleanField(_l("Take the store over from another panel, which is gone"))
