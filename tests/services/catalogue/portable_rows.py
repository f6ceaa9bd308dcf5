"""Rows in every table of a catalogue, with values that hurt, and a look at what became of them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from cuid2 import create_id
from sqlalchemy import Connection, insert, select, update

from app.extensions import Model, db
from app.models import Copy, DatabaseBackup, Proof, RetentionPolicy, Status, Trigger
from tests.migrations.planting import plant

Rows = dict[str, list[dict[str, Any]]]

HURTING = "Zoë 🐘 \u202e '\"; -- \\N \\x00 %s :name\r\n\t"
_EAST = timezone(timedelta(hours=5, minutes=45))
_JSON = {HURTING: [2**70, -0.5, 1e-9, None, True, {"": []}], "nul": "\0", "half": "\ud83d"}


def fill() -> None:
    """Rows in every table that has none, and one that hurts in some."""
    with db.engine.begin() as connection:
        plant(connection)
        hurting = {
            "id": create_id(),
            "filename": f"{HURTING}.dump",
            "size": 2**63 - 1,
            "database_size": -(2**63),
            "notes": HURTING,
            "server": "ü" * 255,
            "database": "",
            "foreign": True,
            "is_partial": False,
            "status": Status.FAILED,
            "trigger": Trigger.API,
            "created_at": datetime(2026, 10, 25, 2, 30, 0, 123_456, tzinfo=_EAST),
            "started_at": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            "finished_at": None,
            "contents": _JSON,
            "log": "x" * 3_000_000,
        }
        connection.execute(insert(DatabaseBackup), [hurting])
        connection.execute(update(Proof).values(evidence=_JSON))
        connection.execute(update(RetentionPolicy).values(max_total_size=2**62, time_zone="UTC"))
        connection.execute(update(Copy).values(error_hint=HURTING, loss=None))


def rows_of(connection: Connection) -> Rows:
    """All rows of all tables, as the models see them."""
    return {
        table.name: [
            dict(row)
            for row in connection.execute(
                select(table).order_by(*table.primary_key.columns)
            ).mappings()
        ]
        for table in Model.metadata.sorted_tables
    }


def all_rows() -> Rows:
    with db.engine.connect() as connection:
        return rows_of(connection)
