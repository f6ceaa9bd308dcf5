"""Over the API: databases, and what belongs to each of them."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.models import Level
from app.models.types import moment_text
from app.services.databases.lookup import default_database
from app.services.databases.service import retire_database
from tests.conftest import Database
from tests.services.copies.test_places import here
from tests.services.health.test_figures import START, keep, plant, prove

BASE, BACKUP = "/api/admin/databases", "/api/admin/backup"
CANARY = "canary-pw"


@pytest.fixture
def crm(admin: FlaskClient, new_database: Callable[..., Database]) -> Database:
    """Another database, guarded as crm."""
    database = new_database()
    database.run("CREATE TABLE t AS SELECT g FROM generate_series(1, 7) g")
    assert admin.post(BASE, json={"name": "crm", "url": database.url}).status_code == 201
    return database


def test_a_database_is_added_shown_changed_and_listed(admin: FlaskClient):
    url = f"postgresql://u:{CANARY}@db2:5432/crm"
    added = admin.post(BASE, json={"name": "crm", "url": url, "maxAge": 7200})
    assert (added.status_code, added.headers["Location"]) == (201, f"{BASE}/crm")
    row = added.get_json()["database"]
    assert (row["name"], row["server"], row["dbname"]) == ("crm", "db2:5432", "crm")
    assert (row["state"], row["maxAge"], row["fromEnvironment"]) == ("active", 7200, False)
    changed = admin.patch(
        f"{BASE}/crm",
        json={
            "name": "sales",
            "withoutRowsOf": ["public.log"],
            "skipsCounting": True,
            "dumpJobs": 3,
        },
    )
    assert changed.get_json()["database"]["withoutRowsOf"] == ["public.log"]
    assert admin.get(f"{BASE}/crm").status_code == 404
    kept = admin.get(f"{BASE}/sales").get_json()
    assert (kept["maxAge"], kept["skipsCounting"], kept["dumpJobs"]) == (7200, True, 3)
    listed = admin.get(BASE)
    assert "sales" in [each["name"] for each in listed.get_json()["databases"]]
    for answer in (added, changed, listed):
        assert CANARY not in answer.text


def test_a_database_says_where_its_newest_good_backup_is(app: Flask, admin: FlaskClient):
    with app.app_context():
        prove(plant(1), 2, Level.RESTORED)
        name = here(1)
        keep("nas", 1, address="file:///mnt/nas")
    at = moment_text(START + timedelta(days=2))
    expected = {
        "filename": name,
        "copies": 2,
        "places": 2,
        "in": [
            {"store": None, "proof": "restored", "provenAt": at},
            {"store": "nas", "proof": None, "provenAt": None},
        ],
    }
    assert admin.get(f"{BASE}/shop").get_json()["newestGood"] == expected
    (row,) = (row for row in admin.get(BASE).get_json()["databases"] if row["name"] == "shop")
    assert row["newestGood"] == expected


def test_a_database_is_paused_resumed_and_retired(admin: FlaskClient, crm: Database):
    for verb, state in (("pause", "paused"), ("resume", "active"), ("retire", "retired")):
        answer = admin.post(f"{BASE}/crm/{verb}").get_json()
        assert answer["database"]["state"] == state
    refused = admin.post(BACKUP, json={"database": "crm"})
    assert refused.status_code == 409
    assert "retired" in refused.get_json()["title"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "Crm", "url": "postgresql://u@h/d"}, 422),
        ({"name": "crm", "url": "mysql://u@h/d"}, 422),
        ({"name": "crm", "url": "postgresql://u@h/d", "maxAge": -1}, 422),
        ({"name": "crm", "url": "postgresql://u@h/d", "sshUrl": "ssh://-oProxyCommand=x@h"}, 422),
        ({"name": "crm"}, 422),
    ],
)
def test_what_cannot_be_meant_is_refused(admin: FlaskClient, body: dict, status: int):
    assert admin.post(BASE, json=body).status_code == status
    assert len(admin.get(BASE).get_json()["databases"]) <= 1


def test_a_backup_is_of_the_named_database_and_else_of_the_default_one(
    admin: FlaskClient, worker: None, shop: Database, crm: Database
):
    ours = admin.post(BACKUP).get_json()["backup"]
    theirs = admin.post(BACKUP, json={"database": "crm"}).get_json()["backup"]
    assert (ours["database"], theirs["database"]) == (shop.name, crm.name)
    assert {ours["status"], theirs["status"]} == {"COMPLETED"}
    listed = admin.get(f"{BACKUP}?database=crm").get_json()["backups"]
    assert [each["filename"] for each in listed] == [theirs["filename"]]
    assert len(admin.get(BACKUP).get_json()["backups"]) == 2
    assert admin.post(BACKUP, json={"database": "none"}).status_code == 404


def test_without_a_default_the_names_are_listed(app: Flask, admin: FlaskClient, crm: Database):
    admin.post(BASE, json={"name": "wiki", "url": "postgresql://u@h/wiki"})
    with app.app_context():
        retire_database(default_database().name, by="ann")
    refused = admin.post(BACKUP)
    assert refused.status_code == 422
    assert "crm, wiki" in refused.get_json()["hint"]


def test_schedules_retention_and_assertions_belong_to_one(admin: FlaskClient, crm: Database):
    body = {"name": "nightly", "task": "backup", "cron": "0 3 * * *", "database": "crm"}
    made = admin.post("/api/admin/schedules", json=body).get_json()["schedule"]
    assert made["database"] == "crm"
    mine = admin.get("/api/admin/schedules").get_json()["schedules"]
    assert "nightly" not in [each["name"] for each in mine]
    theirs = admin.get("/api/admin/schedules?database=crm").get_json()["schedules"]
    assert sorted(each["name"] for each in theirs) == ["daily scrub", "nightly", "weekly drill"]
    admin.put("/api/admin/retention", json={"keepLast": 3, "database": "crm"})
    assert admin.get("/api/admin/retention").get_json()["policy"]["keepLast"] is None
    policy = admin.get("/api/admin/retention?database=crm").get_json()["policy"]
    assert policy["keepLast"] == 3
    said = {"name": "a", "statement": "SELECT true", "database": "crm"}
    assert (
        admin.post("/api/admin/assertions", json=said).get_json()["assertion"]["database"] == "crm"
    )
    assert admin.get("/api/admin/assertions").get_json()["assertions"] == []


def test_a_partial_backup_is_marked_and_never_the_newest_good_one(
    admin: FlaskClient, worker: None, crm: Database
):
    full = admin.post(BACKUP, json={"database": "crm"}).get_json()["backup"]
    admin.patch(f"{BASE}/crm", json={"withoutRowsOf": ["public.t"]})
    partial = admin.post(BACKUP, json={"database": "crm"}).get_json()["backup"]
    assert (full["isPartial"], partial["isPartial"]) == (False, True)
    assert partial["proof"]["result"] == "passed"
    (row,) = [each for each in admin.get(BASE).get_json()["databases"] if each["name"] == "crm"]
    assert row["lastGoodAt"] == full["finishedAt"]
    tables = admin.get(f"{BACKUP}/{partial['filename']}/contents").get_json()["tables"]
    assert [each["rows"] for each in tables if each["name"] == "t"] == [0]
    replace = {"mode": "replace", "confirm": crm.name, "password": "correct horse battery"}
    refused = admin.post(f"{BACKUP}/{partial['filename']}/restores", json=replace)
    assert (refused.status_code, "partial" in refused.get_json()["title"]) == (409, True)


def test_a_backup_goes_to_the_server_of_another_database(
    admin: FlaskClient, worker: None, crm: Database, shop: Database
):
    filename = admin.post(BACKUP).get_json()["backup"]["filename"]
    preview = admin.get(
        f"{BACKUP}/{filename}/restores/preview", query_string={"mode": "replace", "to": "crm"}
    ).get_json()
    assert preview["database"] == crm.name
    body = {"mode": "replace", "to": "crm", "confirm": shop.name, "password": "x"}
    refused = admin.post(f"{BACKUP}/{filename}/restores", json=body)
    assert refused.status_code == 422  # the name to type is that of the database it replaces
