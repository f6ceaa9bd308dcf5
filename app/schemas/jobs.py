"""Backups, restores and proofs as JSON."""

from typing import Any

from marshmallow import fields

from app.models import Assertion, DatabaseBackup, Kind, Level, Restore, Result, Status, Trigger
from app.models.types import camel_case
from app.schemas.base import CamelCase, Moment, row_of
from app.services.backups import listing
from app.services.jobs.progress import Progress, progress_of
from app.services.proofs import records as proofs
from app.services.restores.by_hand import restore_by_hand
from app.services.restores.preview import Preview


class _JobSchema(CamelCase):
    id = fields.String()
    filename = fields.String()
    status = fields.Enum(Status, by_value=True)
    created_at = Moment()
    server = fields.String()
    database = fields.String()
    trigger = fields.Enum(Trigger, by_value=True)
    created_by = fields.String()
    started_at = Moment(allow_none=True)
    finished_at = Moment(allow_none=True)
    error = fields.Method("get_error", metadata={"type": ["object", "null"]})

    def get_error(self, job: Any) -> dict[str, str] | None:
        """Why it failed, or null."""
        if not job.error_message:
            return None
        return {
            "message": job.error_message,
            "detail": job.error_detail,
            "hint": job.error_hint,
        }


class BackupSchema(_JobSchema):
    """A backup as the API shows it."""

    size = fields.Integer()
    notes = fields.String()
    foreign = fields.Boolean()
    is_partial = fields.Boolean()
    pinned_at = Moment(allow_none=True)
    pinned_by = fields.String()
    pin_reason = fields.String()
    sha256 = fields.String()
    server_version = fields.String()
    tool_version = fields.String()
    compression = fields.String()
    oldest_reader = fields.Integer(allow_none=True)


class RestoreSchema(_JobSchema):
    """A drill or a restore as the API shows it."""

    kind = fields.Enum(Kind, by_value=True)
    schedule_id = fields.String(allow_none=True)
    as_superuser = fields.Boolean()
    tables = fields.List(fields.Dict(), allow_none=True)
    result = fields.Dict()
    safety_backup = fields.String(allow_none=True)
    kept = fields.String(allow_none=True)
    kept_until = Moment(allow_none=True)
    undone_at = Moment(allow_none=True)
    undone_by = fields.String(allow_none=True)
    dropped_at = Moment(allow_none=True)
    can_be_undone = fields.Boolean()


class AssertionSchema(CamelCase):
    """An assertion as the API shows it."""

    id = fields.String()
    name = fields.String()
    statement = fields.String()
    server = fields.String(attribute="database.server")
    database = fields.String(attribute="database.name")
    created_at = Moment()
    created_by = fields.String()


class ProofSchema(CamelCase):
    """A proof in short."""

    level = fields.Function(
        lambda proof: Level(proof.level).name.lower(), metadata={"type": "string"}
    )
    result = fields.Enum(Result, by_value=True)
    proved_at = Moment()
    seconds = fields.Function(lambda proof: proof.milliseconds / 1000, metadata={"type": "number"})
    word = fields.String()


def backup_row(backup: DatabaseBackup) -> dict[str, Any]:
    """A backup, and its best proof."""
    return _backup_rows([backup])[0]


def backups_in_list(backups: list[DatabaseBackup]) -> list[dict[str, Any]]:
    """Backups, and whether their dumps exist."""
    rows = zip(backups, _backup_rows(backups), strict=True)
    return [row | {"fileExists": listing.has_file(backup)} for backup, row in rows]


def _backup_rows(backups: list[DatabaseBackup]) -> list[dict[str, Any]]:
    best = proofs.best_proofs(backups)
    return [
        BackupSchema().dump(backup)
        | {"proof": ProofSchema().dump(best[backup.id]) if backup.id in best else None}
        for backup in backups
    ]


def backup_details(backup: DatabaseBackup) -> dict[str, Any]:
    """All about a backup, and how to restore it by hand."""
    by_hand = restore_by_hand(backup)
    return backups_in_list([backup])[0] | {
        "proofs": [
            ProofSchema().dump(proof) | {"evidence": proof.evidence}
            for proof in proofs.list_proofs(backup.id)
        ],
        "log": backup.log,
        "progress": _progress(progress_of(backup)),
        "roles": (backup.contents or {}).get("roles", ""),
        "brings": (backup.contents or {}).get("foreign", {}),
        "restore": by_hand
        and {
            "commands": by_hand.commands,
            "oldestReader": by_hand.oldest_reader,
            "warning": by_hand.warning,
        },
    }


def restore_row(restore: Restore) -> dict[str, Any]:
    """A drill or a restore."""
    return row_of(RestoreSchema(), restore)


def restore_preview(preview: Preview) -> dict[str, Any]:
    """What a restore would do, before it is requested."""
    left_out = {"is_in_place"} | ({"for_superusers"} if preview.is_in_place else {"stays", "goes"})
    row = {camel_case(key): value for key, value in vars(preview).items() if key not in left_out}
    proof = preview.proof and ProofSchema().dump(preview.proof)
    return row | {"proof": proof, "remarks": preview.remarks}


def restore_details(restore: Restore) -> dict[str, Any]:
    """All about a drill or a restore."""
    progress = _progress(progress_of(restore))
    return restore_row(restore) | {"log": restore.log, "progress": progress}


def _progress(progress: Progress | None) -> dict[str, Any] | None:
    return progress.as_json() if progress else None


def assertion_row(assertion: Assertion) -> dict[str, Any]:
    """An assertion."""
    return row_of(AssertionSchema(), assertion)
