"""Entries of the audit log, findings of the doctor and steps of tests as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from app.models import AuditEntry
from app.services.audit import log as audit
from app.services.health.doctor import Finding, is_healthy
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
