"""Before what cannot be taken lightly: is it still the admin who is asking?"""

from flask_babel import force_locale
from flask_babel.speaklater import LazyString
from wtforms import Field

from app import auth
from app.admin.forms import PasswordForm
from app.errors import AppError, TooManyAttempts, WrongPassword
from app.formatting import sentence_text
from app.services.access.sign_in import Confirm
from app.services.audit.acting import refuse
from app.wording import said


def confirming(form: PasswordForm) -> Confirm:
    """What makes sure that the form's password is that of the admin who is asking."""
    return auth.confirming(form.password.data or "")


def refusal_of(
    error: WrongPassword | TooManyAttempts, form: PasswordForm
) -> tuple[int, dict[str, str]]:
    """Status and headers; the error stands at the form's password."""
    form.password.errors = [error_text(error)]
    if isinstance(error, TooManyAttempts):
        return 429, {"Retry-After": str(error.retry_after)}
    return 422, {}


def refuse_field(field: Field, text: str | LazyString) -> None:
    """Say at a field of a form, and in English in the audit, why it is not obeyed."""
    field.errors = [str(text)]
    with force_locale("en"):
        refuse(str(text))


def error_text(error: AppError) -> str:
    """An error in one line."""
    message, detail, hint = map(said, (error.message, error.detail, error.hint))
    return " ".join(filter(None, [f"{sentence_text(message)}.", detail, hint]))
