"""Apply the policies of stores after copies, as those here apply after backups."""

from datetime import datetime

from sqlalchemy import Select, exists, or_, select, update

from app.extensions import ask, db, writing
from app.logs import errors_logged
from app.models import Copy, Status, Store, StoreRetentionPolicy, Trigger
from app.models.types import now
from app.services.databases.lookup import find_database
from app.services.retention.policies import policy_of
from app.services.retention.prune import prune_unattended
from app.services.stores.lookup import list_stores

_POLICY = StoreRetentionPolicy


def prune_after_copies(at: datetime | None = None) -> None:
    """Prune the stores to which scheduled backups were copied since they were last pruned.

    An unconfirmed policy removes nothing. One cheap statement if there is nothing to do; of
    several workers one does it.
    """
    at = at or now()
    if not ask(select(_due().exists()))[0][0]:
        return
    policies = list(db.session.scalars(_due()))
    due = [
        (row.id, row.database_id, row.store_id, row.pruned_at)
        for row in policies
        if not policy_of(row).is_empty
    ]
    db.session.commit()
    stores = {store.id: store for store in list_stores()}
    for policy_id, database_id, store_id, pruned_at in due:
        database, store = find_database(database_id), stores.get(store_id)
        if database is not None and store is not None and _take(policy_id, pruned_at, at):
            with errors_logged("pruning a store"):
                prune_unattended(database, store, by=f"copies to {store.name}", at=at)


def _due() -> Select[StoreRetentionPolicy]:
    is_new = exists().where(
        Copy.store_id == _POLICY.store_id,
        Copy.database_id == _POLICY.database_id,
        Copy.status == Status.COMPLETED,
        Copy.trigger == Trigger.SCHEDULE,
        or_(_POLICY.pruned_at.is_(None), Copy.finished_at > _POLICY.pruned_at),
    )
    return (
        select(_POLICY)
        .join(Store, Store.id == _POLICY.store_id)
        .where(_POLICY.confirmed_at.is_not(None), Store.is_paused.is_(False), is_new)
    )


def _take(policy_id: str, pruned_at: datetime | None, at: datetime) -> bool:
    """Whether this worker is the one that prunes."""
    is_as_before = _POLICY.pruned_at.is_not_distinct_from(pruned_at)
    taken = update(_POLICY).where(_POLICY.id == policy_id, is_as_before).values(pruned_at=at)
    with writing() as session:
        return bool(session.execute(taken).rowcount)  # type: ignore[attr-defined]
