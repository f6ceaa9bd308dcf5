"""The overview: the answer first, then each database, then what goes on."""

import re
from datetime import datetime, timedelta
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from app.extensions import writing
from app.models import (
    DatabaseBackup,
    Firing,
    Level,
    Outcome,
    Proof,
    Result,
    Schedule,
    Status,
    Task,
)
from app.models.backup import filename_of
from app.models.types import now
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database
from app.services.databases.service import add_database
from app.services.health.days import SHOWN
from tests.admin.test_backups import Page, seen
from tests.api.test_downloads import planted
from tests.services.health.test_figures import counting

PAGE = "/admin/"
DAY = timedelta(days=1)


def plant(app: Flask, ago: timedelta, **values: Any) -> str:
    """The name of a backup of the default database that ended some time ago."""
    with app.app_context():
        database = default_database()
    at = now() - ago
    times = {"created_at": at, "started_at": at, "finished_at": at}
    of = {
        "database_id": database.id,
        "server": database.server,
        "database": database.dbname,
        "filename": filename_of(at),
    }
    return planted(app, **times | of | {"proven": True} | values)


def bars(page: Page) -> list[str]:
    """The state of each day that is drawn."""
    return [bar["class"].removeprefix("day-") for bar in page.all("rect")]


def test_the_day_on_which_the_disk_is_full_is_foreseen(app: Flask, admin: FlaskClient):
    assert "the disk here is full" not in seen(admin, PAGE).text
    with app.app_context():
        free = storage().free_space()
    for days in range(10):
        plant(app, timedelta(days=days, minutes=1), size=free // 50)
    plant(app, timedelta(days=40), size=free)  # the trend is that of the last month
    day = now() + timedelta(days=45)
    foreseen = re.search(r"the disk here is full on (\S+) if nothing", seen(admin, PAGE).text)
    assert foreseen is not None
    assert abs(datetime.fromisoformat(foreseen[1]).date() - day.date()) <= timedelta(days=3)


def test_a_fresh_panel_says_what_to_do(admin: FlaskClient):
    page = seen(admin, PAGE)
    assert "Your database is not protected" in page.text
    assert "there is no good backup yet" in page.text
    for words in ("Make a first backup", "Schedule backups", "Keep copies elsewhere"):
        assert f"To do: {words}" in page.text
    assert "Nothing is scheduled." in page.text
    assert "All backups lie on this machine alone." in page.text
    assert bars(page) == []


def test_a_database_with_a_young_good_backup_is_protected(app: Flask, admin: FlaskClient):
    name = plant(app, timedelta(hours=1))
    page = seen(admin, PAGE)
    assert "Your database is protected" in page.text
    assert "Done: Make a first backup" in page.text
    assert "Never restore-tested" in page.text
    assert page.all("a", href=f"/admin/backup/{name}")
    assert bars(page) == ["nothing"] * (SHOWN - 1) + ["verified"]


def test_one_whose_backup_is_too_old_is_named_with_the_button_that_mends_it(
    app: Flask, admin: FlaskClient
):
    plant(app, timedelta(hours=1))
    with app.app_context():
        add_database("crm", "postgresql://u@127.0.0.1:1/crm", by="ann")
    page = seen(admin, PAGE)
    assert "1 of 2 databases are protected" in page.text
    assert "crm : there is no good backup yet" in page.text
    assert page.all("form", action="/admin/backup?database=crm")


def test_each_day_shows_the_best_that_is_known_of_it(app: Flask, admin: FlaskClient):
    midday = now().replace(hour=12)
    for days, values in {
        5: {},
        4: {"status": Status.FAILED, "proven": False, "size": 0},
        3: {},
        2: {"proven": False},
        40: {},
    }.items():
        name = plant(app, now() - midday + days * DAY, **values)
        if days == 3:
            with app.app_context(), writing() as session:
                row = session.query(DatabaseBackup).filter_by(filename=name).one()
                proof = {"level": Level.RESTORED, "result": Result.PASSED, "milliseconds": 5}
                session.add(Proof(backup_id=row.id, proved_at=row.created_at, **proof))
    with app.app_context(), writing() as session:
        of = {"database_id": default_database().id, "created_by": "ann"}
        nightly = Schedule(name="nightly", task=Task.BACKUP, cron="0 3 * * *", timezone="UTC", **of)
        session.add(nightly)
        session.flush()
        for days, outcome in ((8, Outcome.COMPLETED), (7, Outcome.FAILED)):
            due = midday - days * DAY  # retention has removed the backup of the first one
            session.add(Firing(schedule_id=nightly.id, due_at=due, outcome=outcome))
    drawn = bars(seen(admin, PAGE))
    assert len(drawn) == SHOWN
    assert drawn[-9:] == [
        *("verified", "failed", "nothing", "verified", "failed"),
        *("restore_tested", "failed", "nothing", "nothing"),
    ]
    assert set(drawn[:-9]) == {"nothing"}


def test_what_waits_and_what_comes_next_is_there(app: Flask, admin: FlaskClient):
    name = plant(app, timedelta(), status=Status.PENDING, proven=False, size=0)
    with app.app_context(), writing() as session:
        session.add(
            Schedule(
                database_id=default_database().id, name="nightly", task=Task.BACKUP,
                cron="0 3 * * *", timezone="UTC", created_by="ann", next_due_at=now() + DAY,
            )
        )  # fmt: skip
    page = seen(admin, PAGE)
    assert "Running now" in page.text
    assert page.all("a", href=f"/admin/backup/{name}")
    assert "nightly" in page.text
    assert "Done: Schedule backups" in page.text


def test_many_databases_cost_as_many_statements_as_one(app: Flask, admin: FlaskClient):
    def cost() -> int:
        with app.app_context(), counting() as statements:
            seen(admin, PAGE)
        return len(statements)

    plant(app, timedelta(hours=1))
    few = cost()
    with app.app_context():
        for number in range(20):
            add_database(f"crm{number}", f"postgresql://u@127.0.0.1:1/crm{number}", by="ann")
    for hours in range(1, 20):
        plant(app, timedelta(hours=hours, minutes=1))
    assert cost() == few <= 40
    page = seen(admin, PAGE)
    assert len(page.all("div", **{"class": "database"})) == 12
    assert page.link("9 more databases") == "/admin/databases"
