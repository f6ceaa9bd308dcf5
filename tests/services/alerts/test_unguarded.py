"""The alarm about databases that nobody guards."""

import pytest

from app.extensions import writing
from app.models import Fact, ServerLook
from app.models.types import now
from app.services.alerts import alarms
from app.services.databases.lookup import default_database
from app.services.databases.service import add_database, retire_database

pytestmark = pytest.mark.usefixtures("context")


def seen(*dbnames: str) -> None:
    """A worker has seen these on the server of crm."""
    with writing() as session:
        look = ServerLook(server="db1:5432", ssh_url="", asked_at=now(), asked_by="x")
        look.dbnames = list(dbnames)
        session.merge(look)


def open_titles() -> list[str]:
    alarms.look(now(), files=False)
    return [alarm.title for alarm in alarms.list_open() if alarm.kind is Fact.UNGUARDED]


def add(name: str, dbname: str) -> None:
    add_database(name, f"postgresql://ann:canary-pw@db1/{dbname}", by="ann")


def test_an_alarm_counts_them_and_closes_when_all_are_known():
    add("crm", "crm")
    default_database()
    assert open_titles() == []
    seen("crm", "one", "two", "three")
    assert open_titles() == ["3 databases on db1:5432 have no backup"]
    (alarm,) = (alarm for alarm in alarms.list_open() if alarm.kind is Fact.UNGUARDED)
    assert alarm.body == (
        "Nobody guards one, three, two. Add them, and retire those that need no backup:"
        " flask database discover crm."
    )
    add("one", "one")
    add("two", "two")
    assert open_titles() == ["1 database on db1:5432 has no backup"]
    add("three", "three")
    retire_database("three", by="ann")
    assert open_titles() == []


def test_many_are_not_all_named():
    add("crm", "crm")
    seen(*(f"shop-{number}" for number in range(9)))
    assert open_titles() == ["9 databases on db1:5432 have no backup"]
    assert "shop-4 and 4 more." in alarms.list_open()[0].body
