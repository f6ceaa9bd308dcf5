"""All databases at a glance."""

import pytest

from app.extensions import writing
from app.models import Database, DatabaseBackup, Status, Trigger
from app.models.backup import filename_of
from app.models.types import now
from app.services.databases.configured import storage
from app.services.databases.service import Changes, add_database
from app.services.health.overview import read_row

pytestmark = pytest.mark.usefixtures("context")


def test_a_database_that_leaves_rows_out_is_fresh_by_its_partial_backups():
    """As for the alarm: it has no others, and would be late for ever."""
    changes = Changes(without_rows_of=("public.events",), max_age=3600)
    crm = add_database("crm", "postgresql://u@crm.example.org/crm", changes, by="ann")
    with writing() as session:
        session.get_one(Database, crm.id).created_at = now().replace(year=2020)
    assert read_row("crm").is_late
    backup = DatabaseBackup(
        filename=filename_of(now()),
        database_id=crm.id,
        server=crm.server,
        database=crm.dbname,
        trigger=Trigger.SCHEDULE,
        status=Status.COMPLETED,
        finished_at=now(),
        is_partial=True,
        contents={},
    )
    with writing() as session:
        session.add(backup)
    storage().folder.mkdir(exist_ok=True)
    (storage().folder / backup.filename).touch()
    row = read_row("crm")
    assert not row.is_late
    assert row.last_good_at is None  # a partial one is never a good one
