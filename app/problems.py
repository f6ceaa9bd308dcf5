"""The HTTP status of each error, and errors as application/problem+json (RFC 9457)."""

from http import HTTPStatus
from typing import Any

from flask import Response, jsonify

from app import errors
from app.errors import AppError
from app.services.audit.acting import refuse

STATUSES: dict[type[AppError], int] = {
    errors.NotFound: 404,
    errors.ObjectMissing: 404,
    errors.Conflict: 409,
    errors.InvalidInput: 422,
    errors.NotSignedIn: 401,
    errors.Forbidden: 403,
    errors.TooManyAttempts: 429,
    errors.Busy: 503,
    errors.ConfigurationError: 500,
    errors.PostgresError: 502,
    errors.NotPossible: 409,
    errors.StorageError: 502,
    errors.ObjectLocked: 409,
    errors.StorageFull: 507,
    errors.NotifierError: 502,
    errors.VerificationError: 502,
    errors.Interrupted: 503,
}


def status_of(error: AppError) -> int:
    """The HTTP status of an error: that of its nearest ancestor in the table."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem(error: AppError, status: int, **more: Any) -> Response:
    """An error as JSON; every error under /api/ has this form."""
    refuse(error.message, is_broken=status >= HTTPStatus.INTERNAL_SERVER_ERROR)
    response = jsonify(
        {
            "success": False,
            "title": error.message,
            "status": status,
            "detail": error.detail or error.message,
            "hint": error.hint,
            **more,
        }
    )
    response.status_code = status
    response.content_type = "application/problem+json"
    return response
