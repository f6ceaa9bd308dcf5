"""Retention policies as entries of the settings' document: here, and in each store."""

from dataclasses import asdict, replace

from sqlalchemy import select

from app.extensions import db
from app.models import Database, KeptPolicy, RetentionPolicy, Store, StoreRetentionPolicy
from app.services.databases.lookup import choose_database, not_retired
from app.services.retention import policies
from app.services.retention.periods import length_of, length_text
from app.services.retention.rules import Policy
from app.services.settings_file.entries import Fields, Key, default_name
from app.services.stores.lookup import get_store

_COUNTS = (
    *("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"),
    "max_total_size",
)
FIELDS = dict.fromkeys(_COUNTS, int) | {"keep_within": str, "time_zone": str}


def retention_entries() -> dict[Key, Fields]:
    """The policies of backups here, by the name of their database."""
    chosen = select(Database.name, RetentionPolicy).join(
        Database, Database.id == RetentionPolicy.database_id
    )
    rows = db.session.execute(chosen.where(not_retired()).order_by(Database.name))
    return {Key("", name): _fields(row) for name, row in rows if not _is_empty(row)}


def entries_in_stores() -> dict[Key, Fields]:
    """The policies of copies, by their database and the name of their store."""
    chosen = (
        select(Database.name, Store.name, StoreRetentionPolicy)
        .join(Database, Database.id == StoreRetentionPolicy.database_id)
        .join(Store, Store.id == StoreRetentionPolicy.store_id)
    )
    rows = db.session.execute(chosen.where(not_retired()).order_by(Store.name, Database.name))
    default = default_name()
    return {
        Key("" if database == default else database, store): _fields(row)
        for database, store, row in rows
        if not _is_empty(row)
    }


def retention_as_kept(fields: Fields) -> Fields:
    """Fields of a policy as they are kept: a rule of 0 is none. Raises InvalidInput."""
    kept = {key: (value or None) if key in _COUNTS else value for key, value in fields.items()}
    if "keep_within" in fields:
        within = length_of(fields["keep_within"])
        kept["keep_within"] = length_text(within) if within else None
    return kept


def set_retention(key: Key, fields: Fields, by: str) -> None:
    """Change a policy; what is not given stays. Raises InvalidInput, NotFound."""
    _set(fields, choose_database(key.name), None, by)


def set_in_store(key: Key, fields: Fields, by: str) -> None:
    """The same for copies in a store."""
    _set(fields, choose_database(key.database), get_store(key.name), by)


def remove_retention(key: Key, by: str) -> None:
    """Keep everything again."""
    policies.set_policy(Policy(), choose_database(key.name), by=by)


def remove_in_store(key: Key, by: str) -> None:
    """The same for copies in a store."""
    policies.set_policy(Policy(), choose_database(key.database), get_store(key.name), by=by)


def _set(fields: Fields, database: Database, store: Store | None, by: str) -> None:
    values = dict(fields)
    if within := values.get("keep_within"):
        values["keep_within"] = length_of(within)
    policy = replace(policies.get_policy(database, store), **values)
    policies.set_policy(policy, database, store, by=by)


def _is_empty(row: KeptPolicy) -> bool:
    return policies.policy_of(row).is_empty


def _fields(row: KeptPolicy) -> Fields:
    policy = policies.policy_of(row)
    kept = {key: value for key, value in asdict(policy).items() if value is not None}
    if policy.keep_within is not None:
        kept["keep_within"] = length_text(policy.keep_within)
    return kept
