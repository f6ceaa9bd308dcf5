"""Errors as application/problem+json (RFC 9457)."""

from typing import Any

from flask import Response, jsonify

from app.errors import AppError
from app.services.acts import tell


def problem(error: AppError, status: int, **more: Any) -> Response:
    """An error as JSON; every error under /api/ has this form."""
    tell(detail=error.message)
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
