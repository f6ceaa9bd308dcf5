"""Remove the backups that a retention policy does not keep, or list them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from sqlalchemy import update

from app.errors import AppError, Conflict, NotFound
from app.extensions import db, writing
from app.logs import errors_logged
from app.models import ActOutcome, Database, DatabaseBackup, Firing
from app.models.types import now
from app.queue import restores_queue
from app.services.audit import log as audit
from app.services.audit.acting import acting, tell
from app.services.backups.good import is_good
from app.services.backups.service import remove_backup
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database, find_database
from app.services.retention.candidate import Candidate, Tally
from app.services.retention.listing import list_candidates
from app.services.retention.policies import (
    confirm_policy,
    get_policy,
    get_standing,
    last_prune,
    note_prune,
)
from app.services.retention.rules import Plan, Policy, Verdict, make_plan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preview:
    """What a policy would do now."""

    policy: Policy
    removed: Tally
    kept: Tally
    excess: int  # bytes by which the size limit cannot be met
    removing: list[Verdict]  # newest first, as many as were asked for
    keeping: list[Verdict]


@dataclass
class Pruned:
    """The result of a prune: filenames, and why the others are still there."""

    removed: list[str] = field(default_factory=list)
    size: int = 0  # bytes
    spared: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def in_short(self) -> str:
        """How much was removed, and how much could not be."""
        gone, failed = Tally(len(self.removed), self.size), len(self.failed)
        summary = f"retention removed {gone.in_words}" if gone.number else ""
        missed = f"{failed} could not be removed" if failed else ""
        return "; ".join(filter(None, [summary, missed]))

    def in_words(self) -> str:
        """What was removed, and what is still there."""
        parts = {
            "removed": self.removed,
            "spared": [f"{name} ({why})" for name, why in self.spared.items()],
            "failed": [f"{name} ({why})" for name, why in self.failed.items()],
        }
        return "; ".join(
            f"{word} {len(names)}: {', '.join(names)}" for word, names in parts.items() if names
        )

    @property
    def outcome(self) -> ActOutcome:
        """Failed only if a removal failed: sparing a pinned or open backup is not a failure."""
        return ActOutcome.FAILED if self.failed else ActOutcome.DONE


class _NothingGood(Conflict):
    """The newest good backup that the plan keeps is no longer good."""


@acting
def dry_run(of: Database | None = None) -> Preview:
    """What a prune would do now, as a recorded act."""
    tell(detail="dry run")
    return preview(of)


def preview(
    of: Database | None = None,
    *,
    policy: Policy | None = None,
    at: datetime | None = None,
    limit: int | None = None,
) -> Preview:
    """What the policy of a database, or another `policy`, would remove and keep.

    The default database if None. At most `limit` backups of each kind.
    """
    database, at = of or default_database(), at or now()
    policy = policy or get_policy(database)
    plans = _plans(database, policy, at)
    removing, keeping = (
        sorted(chain.from_iterable(verdicts), key=lambda verdict: verdict.backup.key, reverse=True)
        for verdicts in ([plan.removing for plan in plans], [plan.keeping for plan in plans])
    )
    removed, kept = (
        Tally.of(verdict.backup for verdict in verdicts) for verdicts in (removing, keeping)
    )
    excess = sum(plan.excess for plan in plans)
    return Preview(policy, removed, kept, excess, removing[:limit], keeping[:limit])


@acting
def prune(of: Database | None = None, *, by: str, at: datetime | None = None) -> Pruned:
    """Remove what the policy of a database does not keep, as an admin asks; that confirms it.

    Raises Conflict if the policy changes at the same moment.
    """
    database = of or default_database()
    policy = get_policy(database)
    if not policy.is_empty:
        confirm_policy(policy, database, by=by)
    return _prune(database, policy, by, at or now())


def _prune(database: Database, policy: Policy, by: str, at: datetime) -> Pruned:
    """Remove what a policy does not keep, oldest first.

    Each is checked again just before: a pin or a reader that came meanwhile wins. A
    backup that cannot be removed is reported and stops no other. But nothing more is
    removed once the newest good backup is no longer good.
    """
    report = Pruned()
    for plan in _plans(database, policy, at):
        _carry_out(plan, report)
    note_prune(database, at, Tally(len(report.removed), report.size))
    words = report.in_words() or "nothing to remove"
    tell(subject=database.name, outcome=report.outcome, detail=words)
    logger.info(
        "pruned database=%r by=%r removed=%d spared=%d failed=%d",
        *(database.name, by, len(report.removed), len(report.spared), len(report.failed)),
    )
    return report


def _carry_out(plan: Plan, report: Pruned) -> None:
    for verdict in reversed(plan.removing):
        backup = verdict.backup
        try:
            remove_backup(backup.filename, _refusal(plan))
        except _NothingGood as error:
            report.spared[backup.filename] = error.message
            break
        except (Conflict, NotFound) as error:
            report.spared[backup.filename] = error.message
        except AppError as error:
            report.failed[backup.filename] = error.message
            logger.warning("not pruned filename=%s error=%r", backup.filename, error.message)
        else:
            report.removed.append(backup.filename)
            report.size += backup.size


@restores_queue.task()  # type: ignore[untyped-decorator]  # huey has no types
def prune_after(backup_id: str, firing_id: str = "") -> None:
    """Prune the database of a backup that was completed by a schedule; raises nothing.

    An unconfirmed policy removes nothing. The result is added to the firing. It runs as a
    task of its own, because it may take minutes.
    """
    backup = db.session.get(DatabaseBackup, backup_id)
    if backup is not None and (summary := _prune_after(backup)):
        added = update(Firing).where(Firing.id == firing_id).values(told=summary)
        with errors_logged("recording what was removed"), writing() as session:
            session.execute(added)


def _prune_after(backup: DatabaseBackup) -> str:
    database = find_database(backup.database_id)
    if database is None:
        return ""
    standing, policy = get_standing(database), get_policy(database)
    if standing.is_empty:
        return ""
    if standing.waits:
        return _kept_back(database)
    summary = ""
    with errors_logged("pruning"):
        report = _prune(database, policy, "schedule", now())
        summary = report.in_short()
        if report.in_words():
            audit.record_unattended(
                "retention.prune",
                backup.created_by,
                subject=database.name,
                outcome=report.outcome,
                detail=report.in_words(),
            )
    return summary


def _kept_back(database: Database) -> str:
    with errors_logged("pruning"):
        going = preview(database, limit=0).removed
        if going.number:
            return f"retention would remove {going.in_words} if its policy were confirmed"
    return ""


def _plans(database: Database, policy: Policy, at: datetime) -> list[Plan]:
    """One for the full backups and one for the partial ones: neither takes the other's place."""
    candidates, pruned_at = list_candidates(database, at), last_prune(database)
    series = ([c for c in candidates if c.is_partial is kind] for kind in (False, True))
    return [make_plan(backups, policy, at, pruned_at) for backups in series]


def _refusal(plan: Plan) -> Callable[[DatabaseBackup], None]:
    """Returns a check that raises Conflict for a backup that must stay after all."""

    def refuse(backup: DatabaseBackup) -> None:
        if plan.newest_good is None or not _is_still_good(plan.newest_good):
            raise _NothingGood("the newest good backup is no longer good")
        if backup.is_pinned:
            raise Conflict("it was pinned meanwhile")
        if storage().is_being_read(backup.filename):
            raise Conflict("it is being read")

    return refuse


def _is_still_good(newest: Candidate) -> bool:
    """Locks the row too, so that it is not deleted before our transaction ends."""
    row = db.session.get(DatabaseBackup, newest.id, with_for_update=True, populate_existing=True)
    return row is not None and is_good(row, partial=newest.is_partial)
