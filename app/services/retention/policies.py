"""The retention policies of each database, here and in stores, as the catalogue keeps them."""

import logging
import re
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import Conflict, InvalidInput
from app.extensions import db, writing
from app.models import Database, KeptPolicy, RetentionPolicy, Store, StoreRetentionPolicy
from app.models.types import now
from app.services.audit.acting import acting, tell
from app.services.databases.lookup import default_database
from app.services.retention.candidate import Tally
from app.services.retention.periods import PERIODS
from app.services.retention.rules import Policy

logger = logging.getLogger(__name__)

MAX_PLACES = 1_000  # of one rule
_MAX_SIZE = 2**62  # bytes
_HOUR = timedelta(hours=1)
_NONE = Tally(0, 0)
_COUNTS = ("keep_last", *PERIODS)
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) *([kmgtp]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def get_policy(of: Database | None = None, store: Store | None = None) -> Policy:
    """The policy of a database, the default one if None; empty if none was set.

    It is that of its backups here, or of its copies in a store.
    """
    return policy_of(_find(of or default_database(), store))


def policy_of(row: KeptPolicy | None) -> Policy:
    """The policy in a row that was already read."""
    if row is None:
        return Policy()
    within = None if row.keep_within is None else row.keep_within * _HOUR
    values = {field.name: getattr(row, field.name) for field in fields(Policy)}
    return Policy(**values | {"keep_within": within})


@acting
def set_policy(
    policy: Policy, of: Database | None = None, store: Store | None = None, *, by: str
) -> Policy:
    """Set the policy of a database; nothing is removed before the next prune.

    A policy that may remove more than the previous one must be confirmed. Raises InvalidInput.
    """
    refuse_wrong(policy)
    database = of or default_database()
    values = {field.name: getattr(policy, field.name) or None for field in fields(Policy)}
    if policy.keep_within is not None:
        values["keep_within"] = policy.keep_within // _HOUR or None
    with writing() as session:
        row = _find(database, store, session)
        previous = policy_of(row)
        if row is None:
            row = _new(database, store)
            session.add(row)
        for key, value in values.items():
            setattr(row, key, value)
        if not policy_of(row).keeps_all_of(previous):
            row.confirmed_at = None
        row.updated_at, row.updated_by = now(), by[:255]
    name = subject_of(database, store)
    tell(subject=name)
    logger.info("retention policy set database=%r by=%r policy=%r", name, by, policy)
    return get_policy(database, store)


def last_prune(of: Database, store: Store | None = None) -> datetime | None:
    """When backups of this database, or its copies in a store, were last pruned."""
    row = _find(of, store)
    return row.pruned_at if row is not None else None


def note_prune(
    of: Database, at: datetime, removed: Tally = _NONE, store: Store | None = None
) -> None:
    """Record that backups of this database were pruned, and which amount was removed."""
    with writing() as session:
        row = _find(of, store, session)
        if row is not None:
            row.pruned_at = at
            if removed.number:
                row.removed_at, (row.removed_number, row.removed_size) = at, removed


@dataclass(frozen=True)
class Standing:
    """What a policy may remove automatically, and what it removed last."""

    is_empty: bool
    confirmed_at: datetime | None
    removed_at: datetime | None = None
    removed: Tally = _NONE

    @property
    def waits(self) -> bool:
        """Whether it removes nothing automatically until an admin confirms it."""
        return not self.is_empty and self.confirmed_at is None


def get_standing(of: Database | None = None, store: Store | None = None) -> Standing:
    """The standing of a database's policy, the default one if None."""
    return standing_of(_find(of or default_database(), store))


def standing_of(row: KeptPolicy | None) -> Standing:
    """The standing of a policy that was already read."""
    if row is None:
        return Standing(is_empty=True, confirmed_at=None)
    removed = Tally(row.removed_number, row.removed_size)
    return Standing(policy_of(row).is_empty, row.confirmed_at, row.removed_at, removed)


def confirm_policy(
    policy: Policy, of: Database | None = None, store: Store | None = None, *, by: str
) -> None:
    """Let scheduled backups, or their copies, remove what this policy does not keep.

    Raises Conflict if the database has another one by now.
    """
    database = of or default_database()
    with writing() as session:
        row = _find(database, store, session)
        if row is None or policy_of(row) != policy:
            raise Conflict("the retention policy was changed meanwhile", hint="Review it again.")
        row.confirmed_at = row.confirmed_at or now()
    name = subject_of(database, store)
    tell(subject=name)
    logger.info("retention policy confirmed database=%r by=%r", name, by)


def subject_of(database: Database, store: Store | None) -> str:
    """What a policy is about, for the audit: shop, or shop in nas"""
    return f"{database.name} in {store.name}" if store else database.name


def size_of(text: str) -> int:
    """Bytes of a text such as 500 GiB, 1.5T or 1048576; units are powers of 1024.

    Raises InvalidInput.
    """
    match = _SIZE.fullmatch(text.strip())
    size = match and int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])
    if size is None or size > _MAX_SIZE:
        raise InvalidInput(
            "the size limit is not a valid size, or too large",
            hint="For example 500 GiB or 1.5T; units are powers of 1024.",
        )
    return size


def _find(
    database: Database, store: Store | None, writer: Session | None = None
) -> KeptPolicy | None:
    """The row; for a `writer` it is locked."""
    session = writer or db.session
    if store is None:
        here = select(RetentionPolicy).filter_by(database_id=database.id)
        return session.scalar(here.with_for_update() if writer else here)
    there = select(StoreRetentionPolicy).filter_by(database_id=database.id, store_id=store.id)
    return session.scalar(there.with_for_update() if writer else there)


def _new(database: Database, store: Store | None) -> RetentionPolicy | StoreRetentionPolicy:
    if store is None:
        return RetentionPolicy(database_id=database.id)
    return StoreRetentionPolicy(database_id=database.id, store_id=store.id)


def refuse_wrong(policy: Policy) -> None:
    """Raise InvalidInput for an invalid policy."""
    for name in _COUNTS:
        if not 0 <= (getattr(policy, name) or 0) <= MAX_PLACES:
            words = name.replace("_", " ")
            raise InvalidInput(
                f"{words} must lie between 0 and {MAX_PLACES}",
                hint="Keep within keeps every backup younger than a given time.",
            )
    if policy.keep_within is not None and policy.keep_within % _HOUR:
        raise InvalidInput("keep within must be whole hours")
    if not 0 <= (policy.max_total_size or 0) <= _MAX_SIZE:
        raise InvalidInput("the size limit must not be negative, or larger than any disk")
    try:
        is_known = 0 < len(policy.time_zone) <= 64 and bool(ZoneInfo(policy.time_zone))  # noqa: PLR2004
    except (KeyError, ValueError, OSError):
        is_known = False
    if not is_known:
        raise InvalidInput(
            "not a valid time zone", hint="Examples: UTC, Europe/Berlin, America/New_York."
        )
