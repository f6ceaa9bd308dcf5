"""The form of a store."""

from wtforms import BooleanField, SelectField, SelectMultipleField, StringField, TextAreaField

from app.admin.forms import NAME, Form
from app.models import ReadBack, TakesCatalogue
from app.services.stores.service import MAX_URL


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
        render_kw={"rows": 3, "autocomplete": "off", "spellcheck": "false"},
    )
    no_credentials = BooleanField("Forget the stored ones")
    recipients = TextAreaField(
        "Encrypt to these public keys",
        render_kw={"rows": 2, "spellcheck": "false", "placeholder": "one a line, age1…"},
    )
    all_databases = BooleanField("All databases, also later ones", default=True)
    databases = SelectMultipleField(validate_choice=False)
    read_back = SelectField(
        "Read back new copies",
        choices=[member.value for member in ReadBack],  # type: ignore[misc]  # the stubs are behind
        validate_choice=False,
    )
    catalogue = SelectField(
        "Export the panel's own catalogue",
        choices=[member.value for member in TakesCatalogue],  # type: ignore[misc]  # as above
        validate_choice=False,
    )
    limit = StringField("Limit in a second", render_kw={"placeholder": "none, for example 10MB"})
    untested = BooleanField("Save it without asking the store")
    take_over = BooleanField("Take the store over from another panel, which is gone")
