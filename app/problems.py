"""Errors as application/problem+json (RFC 9457)."""

from http import HTTPStatus
from typing import Any

from flask import Response, jsonify

from app.errors import AppError
from app.services.audit.acting import refuse


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
