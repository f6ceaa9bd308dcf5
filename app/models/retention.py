"""Retention policies: which backups of a database are kept, here and in each store."""

from datetime import datetime

from cuid2 import create_id
from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, now


class KeptPolicy:
    """The columns of a policy; None switches a rule off."""

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=create_id)
    keep_last: Mapped[int | None]
    keep_hourly: Mapped[int | None]
    keep_daily: Mapped[int | None]
    keep_weekly: Mapped[int | None]
    keep_monthly: Mapped[int | None]
    keep_yearly: Mapped[int | None]
    keep_within: Mapped[int | None]  # hours
    max_total_size: Mapped[int | None] = mapped_column(BigInteger)  # bytes
    time_zone: Mapped[str] = mapped_column(String(64), default="UTC")
    updated_at: Mapped[datetime] = mapped_column(Moment, default=now)
    updated_by: Mapped[str] = mapped_column(String(255))
    # A prune in the future reveals a clock that was set back.
    pruned_at: Mapped[datetime | None] = mapped_column(Moment)
    # When an admin confirmed it; a stricter policy must be confirmed again.
    confirmed_at: Mapped[datetime | None] = mapped_column(Moment)
    # The last prune that removed something.
    removed_at: Mapped[datetime | None] = mapped_column(Moment)
    removed_number: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    removed_size: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))


class RetentionPolicy(KeptPolicy, Model):
    """A row of `retention_policies`: which backups of a database are kept here."""

    __tablename__ = "retention_policies"

    database_id: Mapped[str] = mapped_column(ForeignKey("databases.id"))

    __table_args__ = (UniqueConstraint("database_id", name="uq_retention_policies_of_database"),)


class StoreRetentionPolicy(KeptPolicy, Model):
    """A row of `store_retention_policies`: which copies of a database are kept in a store."""

    __tablename__ = "store_retention_policies"

    store_id: Mapped[str] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"))
    database_id: Mapped[str] = mapped_column(ForeignKey("databases.id"))

    __table_args__ = (
        UniqueConstraint("store_id", "database_id", name="uq_store_retention_policies_of_both"),
    )
