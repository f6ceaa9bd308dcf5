"""Notifiers, deliveries and alarms as JSON."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete

from app.extensions import writing
from app.models import Alarm, Fact, Notifier
from app.models.types import now
from tests.api.test_downloads import is_problem
from tests.listeners import listening

NOTIFIERS = "/api/admin/notifiers"
ROW = {"id", "name", "target", "facts", "title", "body", "enabled", "createdAt", "createdBy"}


@pytest.fixture(autouse=True)
def none_left(panel: Flask) -> Iterator[None]:
    yield
    with panel.app_context(), writing() as session:
        session.execute(delete(Notifier))
        session.execute(delete(Alarm))


def test_a_test_without_an_answer_says_so(ann: FlaskClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.services.alerts.notifiers._TEST_PATIENCE", 2)
    with listening(hangs=True) as silent:
        made = ann.post(NOTIFIERS, json={"name": "ops", "url": f"{silent.url}?rto=600"})
        answer = ann.post(f"{NOTIFIERS}/{made.json['notifier']['id']}/test")
    assert is_problem(answer, 502)
    assert answer.json["title"] == "the test was not sent"
    assert answer.json["detail"].startswith("no answer within 2 s")
    assert answer.json["hint"].startswith("Check its URL")


def test_one_is_made_listed_changed_tested_and_deleted(ann: FlaskClient):
    with listening() as right:
        body = {"name": "ops", "url": right.url, "facts": ["disk-low"]}
        answer = ann.post(NOTIFIERS, json=body)
        assert answer.status_code == 201, answer.text
        row = answer.get_json()["notifier"]
        assert set(row) == ROW
        assert (row["target"], row["facts"]) == ("json://127.0.0.1 (JSON)", ["disk-low"])
        assert "canary" not in answer.text + ann.get(NOTIFIERS).text
        assert ann.get(NOTIFIERS).get_json() == {"notifiers": [row]}
        url = f"{NOTIFIERS}/{row['id']}"
        answer = ann.patch(url, json={"facts": None, "title": "$title", "enabled": False})
        changed = row | {"facts": None, "title": "$title", "enabled": False}
        assert answer.get_json() == {"success": True, "notifier": changed}
        assert is_problem(ann.post(NOTIFIERS, json=body), 409)
        answer = ann.post(f"{url}/test")
        assert answer.get_json() == {"success": True, "message": "Test message sent"}
        right.answers = 503
        answer = ann.post(f"{url}/test", json={})
        assert is_problem(answer, 502)
        assert "503" in answer.get_json()["detail"]
        assert "canary" not in answer.text
    found = ann.get("/api/admin/deliveries").get_json()["deliveries"]
    assert {(each["status"], each["notifier"]) for each in found} == {
        ("sent", "ops"),
        ("failed", "ops"),
    }
    assert set(found[0]) == {
        *("id", "fact", "title", "body", "status", "attempts", "createdAt"),
        *("nextAttemptAt", "endedAt", "lastError", "notifier"),
    }
    assert len(ann.get("/api/admin/deliveries?limit=1").get_json()["deliveries"]) == 1
    assert ann.delete(url).get_json() == {"success": True, "message": "Notifier deleted"}
    for call in (ann.delete(url), ann.patch(url, json={"name": "x"}), ann.post(f"{url}/test")):
        assert is_problem(call, 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "a"},
        {"name": "a", "url": None},
        {"name": ["a"], "url": "json://h"},
        {"name": "a", "url": "json://h", "facts": "disk-low"},
        {"name": "a", "url": "json://h", "facts": [None]},
        {"name": "a", "url": "json://h", "facts": ["nothing"]},
        {"name": "a", "url": "json://h", "enabled": "no"},
        {"name": "a", "url": "json://h", "target": "mine"},
        {"name": "a", "url": "json://h", "body": "$nothing"},
    ],
)
def test_what_cannot_be_meant_is_not_kept(ann: FlaskClient, body: dict):
    assert is_problem(ann.post(NOTIFIERS, json=body), 422)
    assert ann.get(NOTIFIERS).get_json() == {"notifiers": []}


def test_alarms_are_listed(panel: Flask, ann: FlaskClient):
    with panel.app_context(), writing() as session:
        for number, closed_at in enumerate((None, now())):
            row = {"kind": Fact.DISK_LOW, "subject": "/b", "title": f"t{number}", "body": "b"}
            session.add(Alarm(**row, opened_at=now() + timedelta(number), closed_at=closed_at))
    every = ann.get("/api/admin/alarms").get_json()["alarms"]
    assert [each["title"] for each in every] == ["t1", "t0"]
    assert set(every[0]) == {
        *("id", "kind", "server", "database", "title", "body"),
        *("openedAt", "toldAt", "closedAt"),
    }
    (open_one,) = ann.get("/api/admin/alarms?open=true").get_json()["alarms"]
    assert (open_one["kind"], open_one["closedAt"]) == ("disk-low", None)
    (past,) = ann.get("/api/admin/alarms?open=false&limit=5").get_json()["alarms"]
    assert past["closedAt"] is not None
    for query in ("limit=0", "limit=201", "open=maybe", "x=1"):
        assert is_problem(ann.get(f"/api/admin/alarms?{query}"), 422)
