"""Exports of the panel's own catalogue that are overdue in a store."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import Select, and_, func, or_, select

from app.extensions import db
from app.models import Fact, Store
from app.models.types import moment_text
from app.services.alerts.conditions.trouble import Trouble

_BOUND = timedelta(days=2)
_FAILING = timedelta(hours=30)  # one is due after a day, and is then tried each hour


def overdue_exports(at: datetime) -> Iterator[Trouble]:
    """Stores that take the catalogue, and have had no good export of it for too long."""
    for store_id, name, last, error in db.session.execute(_overdue(at)):
        lines = [
            f"The last good one is of {moment_text(last)}." if last else "There is no good one.",
            f"The last attempt failed: {error}." if error else "",
            f"One is expected each day. flask store export-catalogue {name} tries it now.",
        ]
        yield Trouble(
            Fact.EXPORT_OVERDUE,
            store_id,
            f"The export of the catalogue to {name} is overdue",
            "\n".join(line for line in lines if line),
        )


def _overdue(at: datetime) -> Select[str, str, datetime | None, str]:
    """A store that only begins to take the catalogue has neither an export nor an error yet."""
    last = func.coalesce(Store.exported_at, Store.created_at)
    failed = Store.export_error != ""
    return (
        select(Store.id, Store.name, Store.exported_at, Store.export_error)
        .where(
            Store.getting_catalogue(),
            Store.is_paused.is_(False),
            or_(
                and_(Store.exported_at.is_not(None), last < at - _BOUND),
                and_(failed, last < at - _FAILING),
            ),
        )
        .order_by(Store.name)
    )
