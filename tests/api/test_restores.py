"""Drills and restores as JSON: each call, each answer, and what it does not take."""

import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from app.extensions import db, writing
from app.models import Kind, Level, Proof, Restore, Result, Status, Trigger
from app.models.types import now
from app.services.backups import listing
from app.services.restores import service as restores
from tests.api.test_downloads import is_problem, planted
from tests.conftest import PASSWORD, Database, database_id

RESTORES = "/api/admin/restores"
SURE = {"password": PASSWORD}
ROW = {
    "id", "filename", "kind", "status", "createdAt", "server", "database", "trigger",
    "createdBy", "startedAt", "finishedAt", "error", "result", "safetyBackup", "kept",
    "keptUntil", "undoneAt", "undoneBy", "droppedAt", "canBeUndone", "tables",
    "scheduleId",
    "asSuperuser",
}  # fmt: skip
FOUND = {
    "differences": [], "missingRoles": [], "privileged": [], "leftOut": [],
    "tables": 2, "rows": 550, "owner": "ann", "seconds": 41.2,
}  # fmt: skip


def planted_restore(app: Flask, filename: str, **values: Any) -> str:
    """A row of a restore that has ended well, unless told otherwise; returns its id."""
    status = values.get("status", Status.COMPLETED)
    row = Restore(
        **{
            "filename": filename,
            "kind": Kind.BESIDE,
            "status": status,
            "server": "127.0.0.1:1",
            "database": "shop_restored",
            "working": "backstop_planted",
            "trigger": Trigger.API,
            "created_by": "ann",
            "tidied_at": now(),
        }
        | ({} if status is Status.PENDING else {"started_at": now(), "finished_at": now()})
        | values
        | {"result": FOUND | values.get("result", {})}
    )
    with app.app_context():
        row.database_id = database_id(row.server, "shop")
        with writing() as session:
            session.add(row)
            session.flush()
            return row.id


def planted_proof(app: Flask, filename: str, **values: Any) -> None:
    defaults = {"level": Level.READ, "result": Result.PASSED, "milliseconds": 41_200}
    with app.app_context():
        backup_id = listing.get_backup(filename).id
        with writing() as session:
            session.add(Proof(backup_id=backup_id, **(defaults | values)))


@pytest.fixture
def nothing_pending(panel: Flask):
    """What a test has queued ends afterwards: no worker would ever take it."""
    yield
    with panel.app_context():
        for each in restores.list_restores():
            if each.is_pending:
                restores.cancel_restore(each.id, by="the test")


def ended(client: FlaskClient, location: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = client.get(location).get_json()
        if found["status"] != "PENDING":
            return dict(found)
        time.sleep(0.05)
    raise AssertionError("it does not end")


@pytest.mark.usefixtures("worker")
def test_a_drill_is_run_by_the_worker_and_proves_the_backup(admin: FlaskClient):
    backup = admin.post("/api/admin/backup").get_json()["backup"]
    assert backup["proof"]["word"] == "Read back"
    url = f"/api/admin/backup/{backup['filename']}"
    answer = admin.post(f"{url}/drills")
    assert answer.status_code == 202
    told = answer.get_json()
    assert told["success"] is True
    assert set(told["restore"]) == ROW
    assert answer.headers["Location"] == f"{RESTORES}/{told['restore']['id']}"
    drill = ended(admin, answer.headers["Location"])
    assert set(drill) == ROW | {"log", "progress"}
    assert (drill["kind"], drill["status"], drill["error"]) == ("drill", "COMPLETED", None)
    assert (drill["result"]["tables"], drill["result"]["rows"]) == (2, 550)
    assert drill["result"]["differences"] == []
    assert "processing data for table" in drill["log"]
    details = admin.get(f"{url}/details").get_json()
    assert [each["level"] for each in details["proofs"]] == ["restored", "read"]
    assert details["proofs"][0]["evidence"]["rows"] == 550
    assert details["proof"]["word"] == "Restored"


@pytest.mark.usefixtures("worker")
def test_a_replace_is_undone_and_its_rest_dropped(admin: FlaskClient, shop: Database):
    filename = admin.post("/api/admin/backup").get_json()["backup"]["filename"]
    shop.run("DELETE FROM orders")
    url = f"/api/admin/backup/{filename}/restores"
    body = {"mode": "replace", "confirm": shop.name}
    assert is_problem(admin.post(url, json=body), 422)
    answer = admin.post(url, json=body | SURE)
    assert answer.status_code == 202, answer.text
    done = ended(admin, answer.headers["Location"])
    assert done["status"] == "COMPLETED", done
    assert done["canBeUndone"] is True
    assert done["safetyBackup"] != filename
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]
    for body in ({}, {"password": "not mine"}):
        assert is_problem(admin.post(f"{answer.headers['Location']}/undo", json=body), 422)
        assert is_problem(admin.delete(f"{answer.headers['Location']}/kept", json=body), 422)
    undone = admin.post(f"{answer.headers['Location']}/undo", json=SURE)
    assert undone.status_code == 200, undone.text
    assert undone.get_json()["restore"]["undoneBy"] == "admin"
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]
    dropped = admin.delete(f"{answer.headers['Location']}/kept", json=SURE)
    assert dropped.get_json()["restore"]["droppedAt"]
    assert is_problem(admin.delete(f"{answer.headers['Location']}/kept"), 409)


@pytest.mark.usefixtures("worker")
def test_what_a_restore_would_do_is_told_and_refused_before(admin: FlaskClient, shop: Database):
    filename = admin.post("/api/admin/backup").get_json()["backup"]["filename"]
    url = f"/api/admin/backup/{filename}/restores"
    told = admin.get(f"{url}/preview?mode=beside&into={shop.name}_mine").get_json()
    assert set(told) == {
        "database", "dumpedVersion", "serverVersion", "tables", "rows", "owner", "proof", "running",
        "sessions", "missingRoles", "missingRolesSql", "privileged", "leftOut", "neededBytes",
        "freeBytes", "remarks", "definitions", "forSuperusers", "powers",
    }  # fmt: skip
    assert told["database"] == f"{shop.name}_mine"
    assert told["dumpedVersion"] == told["serverVersion"]
    assert told["proof"]["word"] == "Read back"
    assert admin.get(f"{url}/preview?mode=replace").get_json()["database"] == shop.name
    assert admin.get(f"{url}/preview?mode=drill").get_json()["database"] == ""
    for query in ("", "mode=x", "mode=replace&into=x", "mode=beside&into=backstop_x"):
        assert is_problem(admin.get(f"{url}/preview?{query}"), 422)
    taken = {"mode": "beside", "into": "postgres"}
    assert is_problem(admin.get(f"{url}/preview", query_string=taken), 409)
    assert is_problem(admin.post(url, json=taken), 409)
    assert is_problem(
        admin.get("/api/admin/backup/backup_x.dump/restores/preview?mode=beside"), 404
    )
    assert admin.get(RESTORES).get_json()["restores"] == []


@pytest.mark.usefixtures("worker")
def test_what_this_server_lacks_is_409_for_a_restore(app: Flask, admin: FlaskClient):
    filename = admin.post("/api/admin/backup").get_json()["backup"]["filename"]
    with app.app_context(), writing():
        row = listing.get_backup(filename)
        row.contents = (row.contents or {}) | {"extensions": [{"name": "no_such"}]}
    url = f"/api/admin/backup/{filename}/restores"
    for answer in (
        admin.post(url, json={"mode": "beside"}),
        admin.get(f"{url}/preview?mode=beside"),
    ):
        assert is_problem(answer, 409)
        assert "no_such" in answer.get_json()["title"]


@pytest.mark.usefixtures("nothing_pending")
def test_a_restore_beside_waits_with_the_proposed_name_and_is_cancelled(
    panel: Flask, ann: FlaskClient
):
    filename = planted(panel)
    answer = ann.post(f"/api/admin/backup/{filename}/restores", json={"mode": "beside"})
    assert answer.status_code == 202
    restore = answer.get_json()["restore"]
    assert restore["database"].startswith("shop_restored_")
    assert (restore["status"], restore["createdBy"]) == ("PENDING", "admin")
    again = {"mode": "beside", "into": "another"}
    assert is_problem(ann.post(f"/api/admin/backup/{filename}/restores", json=again), 409)
    url = f"{RESTORES}/{restore['id']}"
    cancelled = ann.post(f"{url}/cancel")
    assert cancelled.status_code == 200
    assert cancelled.get_json()["restore"]["error"]["message"] == "cancelled by admin"
    assert is_problem(ann.post(f"{url}/cancel"), 409)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"mode": "drill"},
        {"mode": "replace"},
        {"mode": "replace", "confirm": "another"},
        {"mode": "replace", "confirm": "shop", "into": "x"},
        {"mode": "beside", "into": "shop"},
        {"mode": "beside", "into": "backstop_x"},
        {"mode": "beside", "into": "x" * 64},
        {"mode": "beside", "into": 1},
        {"mode": "beside", "more": "x"},
        {"mode": "beside", "tables": [{"schema": "public", "name": "none"}]},
        {"mode": "beside", "tables": [{"schema": "public"}]},
        {"mode": "beside", "tables": ["public.orders"]},
        {"mode": "beside", "tables": None},
        {"mode": "replace", "confirm": "shop", "tables": [{"schema": "public", "name": "none"}]},
    ],
)
def test_what_cannot_be_meant_is_422_and_makes_nothing(
    panel: Flask, ann: FlaskClient, body: dict[str, Any]
):
    before = ann.get(RESTORES).get_json()
    answer = ann.post(f"/api/admin/backup/{planted(panel)}/restores", json=body)
    assert is_problem(answer, 422)
    assert ann.get(RESTORES).get_json() == before


def test_a_backup_without_a_dump_is_409_and_an_unknown_one_404(panel: Flask, ann: FlaskClient):
    failed = planted(panel, status=Status.FAILED)
    for filename, status in ((failed, 409), ("backup_x.dump", 404)):
        url = f"/api/admin/backup/{filename}"
        assert is_problem(ann.post(f"{url}/drills"), status)
        assert is_problem(ann.post(f"{url}/restores", json={"mode": "beside"}), status)


def test_restores_are_listed_newest_first_and_by_backup(panel: Flask, ann: FlaskClient):
    one, other = planted(panel), planted(panel)
    ids = [planted_restore(panel, name) for name in (one, other, one)]
    told = ann.get(f"{RESTORES}?limit=3").get_json()["restores"]
    assert {each["id"] for each in told} == set(ids)
    assert all(set(each) == ROW for each in told)
    mine = ann.get(f"{RESTORES}?filename={one}").get_json()["restores"]
    assert {each["id"] for each in mine} == {ids[0], ids[2]}
    for query in ("limit=0", "limit=201", "limit=x", "unknown=1"):
        assert is_problem(ann.get(f"{RESTORES}?{query}"), 422)


def test_what_is_not_there_is_404_and_what_cannot_be_is_409(panel: Flask, ann: FlaskClient):
    calls = [("GET", ""), ("POST", "/cancel"), ("POST", "/undo"), ("DELETE", "/kept")]
    for method, path in calls:
        assert is_problem(ann.open(f"{RESTORES}/nothing{path}", method=method), 404)
    url = f"{RESTORES}/{planted_restore(panel, planted(panel))}"
    for method, path in calls[1:]:
        assert is_problem(ann.open(f"{url}{path}", method=method), 409)


def test_the_proof_of_a_backup_is_told_in_list_and_details(panel: Flask, ann: FlaskClient):
    filename = planted(panel, notes="told with its proof")
    search = "/api/admin/backup?q=told with its proof"
    assert ann.get(search).get_json()["backups"][0]["proof"] is None
    planted_proof(panel, filename)
    planted_proof(panel, filename, level=Level.RESTORED, result=Result.NOT_POSSIBLE)
    proof = ann.get(search).get_json()["backups"][0]["proof"]
    assert (proof["level"], proof["result"], proof["word"]) == ("read", "passed", "Read back")
    assert proof["seconds"] == 41.2
    planted_proof(
        panel, filename, level=Level.RESTORED, result=Result.FAILED,
        evidence={"differences": ["rows of public.orders"]},
    )  # fmt: skip
    details = ann.get(f"/api/admin/backup/{filename}/details").get_json()
    assert details["proof"]["word"] == "Proof failed"
    assert {each["result"] for each in details["proofs"]} == {"passed", "failed", "not possible"}
    assert {"differences": ["rows of public.orders"]} in [
        each["evidence"] for each in details["proofs"]
    ]


def test_a_list_asks_for_all_its_proofs_at_once(panel: Flask, ann: FlaskClient):
    for _ in range(3):
        planted_proof(panel, planted(panel))
    asked: list[str] = []
    with panel.app_context():
        engine = db.engine
    listen = ("before_cursor_execute", lambda *said: asked.append(said[2]))
    event.listen(engine, *listen)
    try:
        ann.get("/api/admin/backup")
    finally:
        event.remove(engine, *listen)
    assert sum("FROM proofs" in each for each in asked) == 1


@pytest.mark.usefixtures("worker")
def test_a_restore_in_place_takes_the_name_and_the_word(admin: FlaskClient, shop: Database):
    filename = admin.post("/api/admin/backup").get_json()["backup"]["filename"]
    shop.run("DELETE FROM orders; CREATE TABLE newer (id int)")
    url, body = f"/api/admin/backup/{filename}/restores", {"mode": "in place"}
    assert is_problem(admin.post(url, json=body), 422)
    body["confirm"] = shop.name
    assert is_problem(admin.post(url, json=body), 422)
    body |= SURE
    refused = admin.post(url, json=body)
    assert is_problem(refused, 422)
    assert "confirmSuperuser" in refused.get_json()["hint"]
    answer = admin.post(url, json=body | {"confirmSuperuser": True})
    assert answer.status_code == 202, answer.text
    done = ended(admin, answer.headers["Location"])
    assert (done["status"], done["kind"], done["asSuperuser"]) == ("COMPLETED", "in place", True)
    assert done["result"]["stays"] == ["table public.newer"]
    assert done["safetyBackup"] != filename
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]
