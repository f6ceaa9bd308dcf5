"""Backups and findings as JSON, for API and terminal: camelCase keys, times in UTC."""

from typing import Any

from marshmallow import Schema, fields

from app.models import DatabaseBackup, Status, Trigger
from app.services import listing, runs
from app.services.doctor import Finding, is_healthy
from app.services.manifests import moment_text
from app.services.restoring import restore_by_hand


class _Moment(fields.Field[Any]):
    def _serialize(self, value: Any, *_: Any, **__: Any) -> str | None:
        return moment_text(value)


class _CamelCase(Schema):
    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        first, *others = field_name.split("_")
        field_obj.data_key = first + "".join(each.title() for each in others)


class BackupSchema(_CamelCase):
    """A backup as the API shows it."""

    id = fields.String()
    filename = fields.String()
    size = fields.Integer()
    status = fields.Enum(Status, by_value=True)
    notes = fields.String()
    created_at = _Moment()
    server = fields.String()
    database = fields.String()
    trigger = fields.Enum(Trigger, by_value=True)
    created_by = fields.String()
    started_at = _Moment()
    finished_at = _Moment()
    sha256 = fields.String()
    server_version = fields.String()
    tool_version = fields.String()
    compression = fields.String()
    oldest_reader = fields.Integer(allow_none=True)
    error = fields.Method("get_error")

    def get_error(self, backup: Any) -> dict[str, str] | None:
        """Why it failed, or null."""
        if not backup.error_message:
            return None
        return {
            "message": backup.error_message,
            "detail": backup.error_detail,
            "hint": backup.error_hint,
        }


def backup_row(backup: DatabaseBackup) -> dict[str, Any]:
    """What the catalogue says of a backup."""
    row: dict[str, Any] = BackupSchema().dump(backup)
    return row


def backup_in_list(backup: DatabaseBackup) -> dict[str, Any]:
    """The row, and whether its dump is there."""
    return backup_row(backup) | {"fileExists": listing.has_file(backup)}


def backup_details(backup: DatabaseBackup) -> dict[str, Any]:
    """Everything known of a backup, and how to restore it by hand."""
    by_hand = restore_by_hand(backup)
    return backup_in_list(backup) | {
        "log": backup.log,
        "progress": runs.progress_of(backup),
        "restore": by_hand
        and {
            "commands": by_hand.commands,
            "oldestReader": by_hand.oldest_reader,
            "warning": by_hand.warning,
        },
    }


def doctor_report(findings: list[Finding]) -> dict[str, Any]:
    """What the doctor has found."""
    return {
        "healthy": is_healthy(findings),
        "findings": [
            {
                "subject": each.subject,
                "state": each.state.value,
                "told": each.told,
                "hint": each.hint,
            }
            for each in findings
        ],
    }
