"""Backups, restores and findings as JSON, for API and terminal: camelCase keys, times in UTC."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from marshmallow import Schema, fields

from app.models import (
    Alarm,
    Assertion,
    AuditEntry,
    DatabaseBackup,
    Delivery,
    DeliveryStatus,
    Fact,
    Firing,
    Kind,
    Level,
    Notifier,
    Outcome,
    Restore,
    Result,
    Schedule,
    Status,
    Task,
    Trigger,
)
from app.models.types import moment_text
from app.services.audit import log as audit
from app.services.backups import listing
from app.services.backups.manifests import camel_case
from app.services.health.doctor import Finding, is_healthy
from app.services.jobs import run as job_run
from app.services.proofs import records as proofs
from app.services.restores.by_hand import restore_by_hand
from app.services.retention.periods import length_text
from app.services.retention.prune import Preview, Pruned
from app.services.retention.rules import Policy, Verdict
from app.services.retention.timelines import Tally
from app.services.schedules import listing as schedule_listing
from app.services.schedules.outlook import Outlook
from app.services.schedules.service import in_words


class _Moment(fields.Field[Any]):
    def _serialize(self, value: Any, *_: Any, **__: Any) -> str | None:
        return moment_text(value)


class _CamelCase(Schema):
    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        first, *others = field_name.split("_")
        field_obj.data_key = first + "".join(each.title() for each in others)


class _JobSchema(_CamelCase):
    id = fields.String()
    filename = fields.String()
    status = fields.Enum(Status, by_value=True)
    created_at = _Moment()
    server = fields.String()
    database = fields.String()
    trigger = fields.Enum(Trigger, by_value=True)
    created_by = fields.String()
    started_at = _Moment()
    finished_at = _Moment()
    error = fields.Method("get_error")

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
    pinned_at = _Moment()
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
    as_superuser = fields.Boolean()
    tables = fields.Raw(allow_none=True)
    result = fields.Dict()
    safety_backup = fields.String(allow_none=True)
    kept = fields.String(allow_none=True)
    kept_until = _Moment()
    undone_at = _Moment()
    undone_by = fields.String(allow_none=True)
    dropped_at = _Moment()
    can_be_undone = fields.Boolean()


class AssertionSchema(_CamelCase):
    """An assertion as the API shows it."""

    id = fields.String()
    name = fields.String()
    statement = fields.String()
    server = fields.String()
    database = fields.String()
    created_at = _Moment()
    created_by = fields.String()


class AlarmSchema(_CamelCase):
    """An alarm as the API shows it."""

    id = fields.String()
    kind = fields.Enum(Fact, by_value=True)
    server = fields.String()
    database = fields.String()
    title = fields.String()
    body = fields.String()
    opened_at = _Moment()
    told_at = _Moment()
    closed_at = _Moment()


class NotifierSchema(_CamelCase):
    """A notifier as the API shows it: never its URL."""

    id = fields.String()
    name = fields.String()
    target = fields.String()
    facts = fields.Raw(allow_none=True)
    title = fields.String()
    body = fields.String()
    enabled = fields.Boolean()
    created_at = _Moment()
    created_by = fields.String()


class DeliverySchema(_CamelCase):
    """A message as the API shows it."""

    id = fields.String()
    fact = fields.String()
    title = fields.String()
    body = fields.String()
    status = fields.Enum(DeliveryStatus, by_value=True)
    attempts = fields.Integer()
    created_at = _Moment()
    next_attempt_at = _Moment()
    ended_at = _Moment()
    last_error = fields.String()


class ScheduleSchema(_CamelCase):
    """A schedule as the API shows it."""

    id = fields.String()
    name = fields.String()
    task = fields.Enum(Task, by_value=True)
    cron = fields.String()
    timezone = fields.String()
    words = fields.Function(lambda schedule: in_words(schedule.cron))
    notes = fields.String()
    enabled = fields.Boolean()
    has_heartbeat = fields.Function(lambda schedule: bool(schedule.heartbeat))
    next_due_at = _Moment()
    server = fields.String()
    database = fields.String()
    created_at = _Moment()
    created_by = fields.String()


class FiringSchema(_CamelCase):
    """A due time of a schedule as the API shows it."""

    due_at = _Moment()
    outcome = fields.Enum(Outcome, by_value=True)
    attempts = fields.Integer()
    missed = fields.Integer()
    missed_since = _Moment()
    told = fields.String()
    finished_at = _Moment()
    job_id = fields.String(allow_none=True)


class ProofSchema(_CamelCase):
    """A proof in short."""

    level = fields.Function(lambda proof: Level(proof.level).name.lower())
    result = fields.Enum(Result, by_value=True)
    proved_at = _Moment()
    seconds = fields.Function(lambda proof: proof.milliseconds / 1000)
    word = fields.String()


def backup_row(backup: DatabaseBackup) -> dict[str, Any]:
    """What the catalogue says of a backup."""
    return _backup_rows([backup])[0]


def backups_in_list(backups: list[DatabaseBackup]) -> list[dict[str, Any]]:
    """The rows, and whether their dumps are there."""
    rows = zip(backups, _backup_rows(backups), strict=True)
    return [row | {"fileExists": listing.has_file(backup)} for backup, row in rows]


def _backup_rows(backups: list[DatabaseBackup]) -> list[dict[str, Any]]:
    best = proofs.best_proofs(backups)
    return [
        BackupSchema().dump(each)
        | {"proof": ProofSchema().dump(best[each.id]) if each.id in best else None}
        for each in backups
    ]


def backup_details(backup: DatabaseBackup) -> dict[str, Any]:
    """Everything known of a backup, and how to restore it by hand."""
    by_hand = restore_by_hand(backup)
    return backups_in_list([backup])[0] | {
        "proofs": [
            ProofSchema().dump(each) | {"evidence": each.evidence}
            for each in proofs.list_proofs(backup.id)
        ],
        "log": backup.log,
        "progress": job_run.progress_of(backup),
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
    """What the catalogue says of a drill or a restore."""
    row: dict[str, Any] = RestoreSchema().dump(restore)
    return row


def restore_preview(told: dict[str, Any]) -> dict[str, Any]:
    """What a restore would do, before it is asked for."""
    return told | {"proof": told["proof"] and ProofSchema().dump(told["proof"])}


def restore_details(restore: Restore) -> dict[str, Any]:
    """Everything known of a drill or a restore."""
    progress = job_run.progress_of(restore)
    return restore_row(restore) | {"log": restore.log, "progress": progress}


def assertion_row(assertion: Assertion) -> dict[str, Any]:
    """What the catalogue says of an assertion."""
    row: dict[str, Any] = AssertionSchema().dump(assertion)
    return row


def audit_row(entry: AuditEntry) -> dict[str, Any]:
    """What was done, as it was recorded."""
    return audit.row_of({each.name: getattr(entry, each.name) for each in entry.__table__.columns})


def alarm_row(alarm: Alarm) -> dict[str, Any]:
    """What the catalogue says of an alarm."""
    row: dict[str, Any] = AlarmSchema().dump(alarm)
    return row


def notifier_row(notifier: Notifier) -> dict[str, Any]:
    """What may be told of a notifier."""
    row: dict[str, Any] = NotifierSchema().dump(notifier)
    return row


def delivery_row(delivery: Delivery, notifier: str) -> dict[str, Any]:
    """What became of a message, and to whom it goes."""
    row: dict[str, Any] = DeliverySchema().dump(delivery)
    return row | {"notifier": notifier}


def retention_policy(policy: Policy) -> dict[str, Any]:
    """A retention policy; null asks nothing."""
    return {camel_case(name): value for name, value in asdict(policy).items()} | {
        "keepWithin": policy.keep_within and length_text(policy.keep_within)
    }


def retention_plan(preview: Preview) -> dict[str, Any]:
    """What a policy would remove and keep, and why."""
    return {
        "policy": retention_policy(preview.policy),
        "removed": _tally(preview.removed),
        "kept": _tally(preview.kept),
        "excess": preview.excess,
        "removing": [_verdict(each) for each in preview.removing],
        "keeping": [_verdict(each) for each in preview.keeping],
    }


def retention_outlook(outlook: Outlook) -> dict[str, Any]:
    """A policy, whether it may act by itself, when, and what goes then."""
    standing, preview = outlook.standing, outlook.preview
    return {
        "policy": retention_policy(preview.policy),
        "confirmedAt": moment_text(standing.confirmed_at),
        "nextPruneAt": None if standing.waits else moment_text(outlook.next_backup_at),
        "outlook": outlook.in_words(),
        "wouldRemove": _tally(preview.removed)
        | {"filenames": [each.backup.filename for each in preview.removing]},
        "lastRemoval": None
        if standing.removed_at is None
        else {"at": moment_text(standing.removed_at)} | _tally(standing.removed),
    }


def pruned(done: Pruned) -> dict[str, Any]:
    """What a prune has done."""
    return {
        "removed": done.removed,
        "size": done.size,
        "spared": done.spared,
        "failed": done.failed,
    }


def _tally(tally: Tally) -> dict[str, int]:
    return {"number": tally.number, "size": tally.size}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    backup = verdict.backup
    return {
        "filename": backup.filename,
        "createdAt": moment_text(backup.created_at),
        "size": backup.size,
        "reasons": list(verdict.reasons),
    }


def schedule_rows(schedules: list[Schedule], last: dict[str, Firing]) -> list[dict[str, Any]]:
    """What the catalogue says of schedules, and of the last time that each was due."""
    rows, fired = ScheduleSchema(many=True).dump(schedules), FiringSchema()
    return [
        row | {"lastFiring": fired.dump(last[row["id"]]) if row["id"] in last else None}
        for row in rows
    ]


def schedule_details(schedule: Schedule, last: Firing | None) -> dict[str, Any]:
    """The same, and when it is next due."""
    (row,) = schedule_rows([schedule], {schedule.id: last} if last else {})
    times = schedule_listing.list_next_times(schedule)
    return row | {"nextTimes": [moment_text(each) for each in times]}


def firing_row(firing: Firing) -> dict[str, Any]:
    """What became of a due time."""
    row: dict[str, Any] = FiringSchema().dump(firing)
    return row


def schedule_preview(words: str, times: list[datetime]) -> dict[str, Any]:
    """A schedule that is not kept yet: in words, and its next times."""
    return {"words": words, "nextTimes": [moment_text(each) for each in times]}


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
