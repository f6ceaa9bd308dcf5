"""Remove what a retention policy does not keep, backups here or copies in a store, or list it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from sqlalchemy import update

from app.errors import AppError, Conflict, NotFound, StoreDenied, StoreUnreachable
from app.extensions import db, writing
from app.logs import errors_logged
from app.models import ActOutcome, Database, DatabaseBackup, Firing, Store
from app.models.types import now
from app.queue import restores_queue
from app.services.audit import log as audit
from app.services.audit.acting import acting, tell
from app.services.backups.good import is_good
from app.services.backups.service import remove_backup
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database, find_database
from app.services.retention.candidate import Candidate, Tally
from app.services.retention.in_stores import NothingGood, list_copy_candidates, take_from_store
from app.services.retention.listing import list_candidates
from app.services.retention.policies import (
    confirm_policy,
    get_policy,
    get_standing,
    last_prune,
    note_prune,
    subject_of,
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


@acting
def dry_run(of: Database | None = None, store: Store | None = None) -> Preview:
    """What a prune would do now, as a recorded act."""
    tell(detail="dry run")
    return preview(of, store)


def preview(
    of: Database | None = None,
    store: Store | None = None,
    *,
    policy: Policy | None = None,
    at: datetime | None = None,
    limit: int | None = None,
) -> Preview:
    """What the policy of a database, or another `policy`, would remove and keep.

    The default database if None; its backups here, or its copies in a store. At most
    `limit` of each kind.
    """
    database, at = of or default_database(), at or now()
    policy = policy or get_policy(database, store)
    plans = _plans(database, store, policy, at)
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
def prune(
    of: Database | None = None, store: Store | None = None, *, by: str, at: datetime | None = None
) -> Pruned:
    """Remove what the policy of a database does not keep, as an admin asks; that confirms it.

    Raises Conflict if the policy changes at the same moment.
    """
    database = of or default_database()
    policy = get_policy(database, store)
    if not policy.is_empty:
        confirm_policy(policy, database, store, by=by)
    return _prune(database, store, policy, by, at or now())


def prune_unattended(database: Database, store: Store | None, *, by: str, at: datetime) -> Pruned:
    """Remove what a policy that was confirmed does not keep, and record it in the audit."""
    report = _prune(database, store, get_policy(database, store), "schedule", at)
    if report.in_words():
        audit.record_unattended(
            "retention.prune",
            by,
            subject=subject_of(database, store),
            outcome=report.outcome,
            detail=report.in_words(),
        )
    return report


def _prune(
    database: Database, store: Store | None, policy: Policy, by: str, at: datetime
) -> Pruned:
    """Remove what a policy does not keep, oldest first.

    Each is checked again just before: a pin or a reader that came meanwhile wins. A
    backup that cannot be removed is reported and stops no other. But nothing more is
    removed once the newest good backup is no longer good.
    """
    report = Pruned()
    for plan in _plans(database, store, policy, at):
        _carry_out(plan, report, store)
    note_prune(database, at, Tally(len(report.removed), report.size), store)
    words, subject = report.in_words() or "nothing to remove", subject_of(database, store)
    tell(subject=subject, outcome=report.outcome, detail=words)
    logger.info(
        "pruned database=%r by=%r removed=%d spared=%d failed=%d",
        *(subject, by, len(report.removed), len(report.spared), len(report.failed)),
    )
    return report


def _carry_out(plan: Plan, report: Pruned, store: Store | None) -> None:
    for verdict in reversed(plan.removing):
        backup = verdict.backup
        try:
            if store is None:
                remove_backup(backup.filename, _refusal(plan))
            else:
                take_from_store(backup.id, plan.newest_good, store)
        except NothingGood as error:
            report.spared[backup.filename] = error.message
            break
        except (Conflict, NotFound) as error:
            report.spared[backup.filename] = error.message
        except AppError as error:
            report.failed[backup.filename] = error.message
            logger.warning("not pruned filename=%s error=%r", backup.filename, error.message)
            if isinstance(error, (StoreDenied, StoreUnreachable)):
                break  # the others would fail as well
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
    standing = get_standing(database)
    if standing.is_empty:
        return ""
    if standing.waits:
        return _kept_back(database)
    with errors_logged("pruning"):
        return prune_unattended(database, None, by=backup.created_by, at=now()).in_short()
    return ""


def _kept_back(database: Database) -> str:
    with errors_logged("pruning"):
        going = preview(database, limit=0).removed
        if going.number:
            return f"retention would remove {going.in_words} if its policy were confirmed"
    return ""


def _plans(database: Database, store: Store | None, policy: Policy, at: datetime) -> list[Plan]:
    """One for the full backups and one for the partial ones: neither takes the other's place."""
    pruned_at = last_prune(database, store)
    candidates = (
        list_copy_candidates(database, store, at) if store else list_candidates(database, at)
    )
    series = ([c for c in candidates if c.is_partial is kind] for kind in (False, True))
    return [make_plan(backups, policy, at, pruned_at) for backups in series]


def _refusal(plan: Plan) -> Callable[[DatabaseBackup], None]:
    """Returns a check that raises Conflict for a backup that must stay after all."""

    def refuse(backup: DatabaseBackup) -> None:
        if plan.newest_good is None or not _is_still_good(plan.newest_good):
            raise NothingGood("the newest good backup is no longer good")
        if backup.is_pinned:
            raise Conflict("it was pinned meanwhile")
        if storage().is_being_read(backup.filename):
            raise Conflict("it is being read")

    return refuse


def _is_still_good(newest: Candidate) -> bool:
    """Locks the row too, so that it is not deleted before our transaction ends."""
    row = db.session.get(DatabaseBackup, newest.id, with_for_update=True, populate_existing=True)
    return row is not None and is_good(row, partial=newest.is_partial)
