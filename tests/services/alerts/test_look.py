"""A full look of the alarms at many databases."""

from datetime import timedelta
from typing import Any

import pytest
from cuid2 import create_id

from app.extensions import writing
from app.models import (
    Database,
    DatabaseBackup,
    Kind,
    Level,
    Notifier,
    Proof,
    Restore,
    Result,
    Status,
    Trigger,
)
from app.models.backup import filename_of
from app.models.types import now
from app.services.alerts import alarms, deliveries
from app.services.databases.configured import storage
from tests.services.health.test_figures import counting

pytestmark = pytest.mark.usefixtures("context")

HOUR = timedelta(hours=1)


def fill(numbers: range) -> None:
    """As many databases on one server, each with seven backups, the last of which failed."""
    storage().folder.mkdir(exist_ok=True)
    start = now()
    with writing() as session:
        for number in numbers:
            name = f"shop-{number}"
            place = {"server": "db:5432", "database": name, "trigger": Trigger.CLI}
            guarded = Database(name=name, url="sealed", server="db:5432", dbname=name)
            session.add(guarded)
            session.flush()
            for age in range(7):
                at = start - age * HOUR - number * timedelta(milliseconds=1)
                job: dict[str, Any] = place | {
                    "database_id": guarded.id,
                    "filename": filename_of(at),
                    "created_at": at,
                    "started_at": at,
                    "finished_at": at + timedelta(seconds=9),
                    "told_at": start,
                    "status": Status.COMPLETED if age else Status.FAILED,
                }
                backup = DatabaseBackup(id=create_id(), size=100, **job)
                session.add(backup)
                session.flush()
                if age:
                    session.add(proof_of(backup))
                    (storage().folder / backup.filename).touch()
            drill = Restore(kind=Kind.DRILL, working=name, **job)
            drill.status = Status.FAILED
            session.add(drill)


def proof_of(backup: DatabaseBackup) -> Proof:
    evidence = {"tables": 9, "differences": []}
    return Proof(
        backup_id=backup.id,
        level=Level.READ,
        result=Result.PASSED,
        milliseconds=1,
        evidence=evidence,
    )


def test_it_asks_as_little_of_forty_databases_as_of_four():
    fill(range(4))
    alarms.look(now(), files=False)
    with counting() as of_four:
        alarms.look(now(), files=False)
    fill(range(4, 40))
    alarms.look(now(), files=False)
    with counting() as of_forty:
        alarms.look(now(), files=False)
    assert len(of_forty) == len(of_four) <= 18
    opened = [alarm.kind.value for alarm in alarms.list_alarms(limit=200)]
    assert (opened.count("backup-failed"), opened.count("drill-failed")) == (40, 40)


def test_it_asks_as_little_of_databases_without_a_good_backup():
    fill(range(4))
    for dump in storage().folder.iterdir():
        dump.unlink()
    alarms.look(now() + 30 * HOUR, files=False)
    with counting() as of_few:
        alarms.look(now() + 30 * HOUR, files=False)
    with writing() as session:
        for number in range(40):
            name = f"new-{number}"
            session.add(Database(name=name, url="sealed", server="db:5432", dbname=name))
    alarms.look(now() + 30 * HOUR, files=False)
    with counting() as of_many:
        alarms.look(now() + 30 * HOUR, files=False)
    opened = [alarm.kind.value for alarm in alarms.list_alarms(limit=200)]
    assert opened.count("backup-too-old") == 44
    assert len(of_many) == len(of_few)


def test_it_looks_for_the_receivers_of_all_its_messages_once():
    with writing() as session:
        session.add(Notifier(id="n", name="n", url="sealed", target=""))
    fill(range(4))
    with counting() as sent:
        alarms.look(now(), files=False)
    assert len(deliveries.list_deliveries()) == 8
    assert sum("FROM notifiers ORDER" in " ".join(text.split()) for text in sent) == 1
