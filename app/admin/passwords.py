"""Before what cannot be taken lightly: is it still the admin who is asking?"""

from app import auth
from app.admin.forms import PasswordForm
from app.errors import AppError, InvalidInput, TooManyAttempts


def refusal_of_password(form: PasswordForm) -> tuple[int, dict[str, str]] | None:
    """Status and headers, with the error on the form; None where the password is right."""
    try:
        auth.confirm_password(form.password.data or "")
    except InvalidInput as error:
        form.password.errors = [told(error)]
        return 422, {}
    except TooManyAttempts as error:
        form.password.errors = [told(error)]
        return 429, {"Retry-After": str(error.retry_after)}
    return None


def told(error: AppError) -> str:
    """An error in one line."""
    message = error.message[:1].upper() + error.message[1:]
    return " ".join(filter(None, [f"{message}.", error.detail, error.hint]))
