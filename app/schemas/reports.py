"""The audit log, findings of the doctor, steps of tests and comparisons as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from app.models import AuditEntry
from app.services.audit import log as audit
from app.services.health.doctor import Finding, is_healthy
from app.services.restores.comparison import Comparison
from app.steps import Step, is_passed


def audit_row(entry: AuditEntry) -> dict[str, Any]:
    """An entry of the audit log."""
    return audit.row_of(
        {column.name: getattr(entry, column.name) for column in entry.__table__.columns}
    )


def doctor_report(findings: list[Finding]) -> dict[str, Any]:
    """The findings of the doctor."""
    return {
        "healthy": is_healthy(findings),
        "findings": [
            {
                "subject": finding.subject,
                "state": finding.state.value,
                "told": finding.told,
                "hint": finding.hint,
            }
            for finding in findings
        ],
    }


def steps_report(steps: Sequence[Step]) -> dict[str, Any]:
    """The steps of a test: `passed` is null for those that say nothing, or give advice."""
    return {"passed": is_passed(steps), "steps": [asdict(step) for step in steps]}


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """What has changed from one backup to another: `objects` is null if a dump is not here."""
    objects = comparison.objects
    return {
        "earlier": comparison.earlier.filename,
        "backup": comparison.backup.filename,
        "tables": [
            {
                "schema": table.schema,
                "name": table.name,
                "change": table.change.value,
                "rowsBefore": table.before.rows,
                "rows": table.now.rows,
                "bytesBefore": table.before.bytes,
                "bytes": table.now.bytes,
            }
            for table in comparison.tables.first
        ],
        "tablesTotal": comparison.tables.total,
        "objects": objects
        and [asdict(changed) | {"change": changed.change.value} for changed in objects.first],
        "objectsTotal": objects and objects.total,
    }
