"""Before what cannot be taken lightly: is it still the admin who is asking?"""

from wtforms import Field

from app import auth
from app.admin.forms import PasswordForm
from app.errors import AppError, TooManyAttempts, WrongPassword
from app.formatting import sentence_text
from app.services.access.sign_in import Confirm
from app.services.audit.acting import refuse


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


def refuse_field(field: Field, text: str) -> None:
    """Say at a field of a form, and in the audit, why it is not obeyed."""
    field.errors = [text]
    refuse(text)


def error_text(error: AppError) -> str:
    """An error in one line."""
    return " ".join(filter(None, [f"{sentence_text(error.message)}.", error.detail, error.hint]))
