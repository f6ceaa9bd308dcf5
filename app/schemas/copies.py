"""Copies in stores as JSON."""

from typing import Any

from marshmallow import fields

from app.models import Copy, Loss, Status, Trigger
from app.schemas.base import CamelCase, Moment, row_of
from app.services.jobs.progress import progress_of


class CopySchema(CamelCase):
    """A copy as the API shows it."""

    id = fields.String()
    filename = fields.String()
    status = fields.Enum(Status, by_value=True)
    loss = fields.Enum(Loss, by_value=True, allow_none=True)
    size = fields.Integer()
    sha256 = fields.String()
    is_encrypted = fields.Boolean()
    dumped_at = Moment()
    created_at = Moment()
    started_at = Moment(allow_none=True)
    finished_at = Moment(allow_none=True)
    verified_at = Moment(allow_none=True)
    attempts = fields.Integer()
    next_attempt_at = Moment(allow_none=True)
    trigger = fields.Enum(Trigger, by_value=True)
    created_by = fields.String()
    error = fields.Method("get_error", metadata={"type": ["object", "null"]})

    def get_error(self, copy: Copy) -> dict[str, str] | None:
        """What went wrong last, or null."""
        if not copy.error_message:
            return None
        return {
            "message": copy.error_message,
            "detail": copy.error_detail,
            "hint": copy.error_hint,
        }


def copy_row(copy: Copy, store: str) -> dict[str, Any]:
    """A copy, and the name of its store."""
    progress = progress_of(copy)
    return row_of(CopySchema(), copy) | {
        "store": store,
        "progress": progress.as_json() if progress is not None else None,
    }
