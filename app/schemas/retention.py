"""Retention policies and plans as JSON."""

from dataclasses import asdict
from typing import Any

from app.models.types import camel_case, moment_text
from app.services.retention.candidate import Tally
from app.services.retention.periods import length_text
from app.services.retention.prune import Preview, Pruned
from app.services.retention.rules import Policy, Verdict
from app.services.schedules.outlook import Outlook


def retention_policy(policy: Policy) -> dict[str, Any]:
    """A retention policy; null means no rule."""
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
        "removing": [_verdict(verdict) for verdict in preview.removing],
        "keeping": [_verdict(verdict) for verdict in preview.keeping],
    }


def retention_outlook(outlook: Outlook) -> dict[str, Any]:
    """A policy, when it is next applied, and what that removes."""
    standing, preview = outlook.standing, outlook.preview
    return {
        "store": outlook.store.name if outlook.store else None,
        "policy": retention_policy(preview.policy),
        "confirmedAt": moment_text(standing.confirmed_at),
        "nextPruneAt": None if standing.waits else moment_text(outlook.next_backup_at),
        "outlook": outlook.in_words(),
        "wouldRemove": _tally(preview.removed)
        | {"filenames": [verdict.backup.filename for verdict in preview.removing]},
        "lastRemoval": None
        if standing.removed_at is None
        else {"at": moment_text(standing.removed_at)} | _tally(standing.removed),
    }


def pruned(done: Pruned) -> dict[str, Any]:
    """The result of a prune."""
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
