"""Entries of the audit log and findings of the doctor as JSON."""

from typing import Any

from app.models import AuditEntry
from app.services.audit import log as audit
from app.services.health.doctor import Finding, is_healthy


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
