"""Over the API: stores of copies."""

import json
import logging
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.services.stores.ownership import MARKER
from tests.test_auditing import entries

BASE, CANARY = "/api/admin/stores", "canary-secret"
AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
S3 = {"name": "s3", "url": "s3://bucket/prefix", "untested": True}


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    folder.mkdir()
    return folder


def test_a_store_is_added_shown_changed_listed_and_removed(admin: FlaskClient, nas: Path):
    body = {"name": "nas", "url": f"file://{nas}", "recipients": [AGE], "readBack": "sample"}
    added = admin.post(BASE, json=body)
    assert (added.status_code, added.headers["Location"]) == (201, f"{BASE}/nas")
    row = added.get_json()["store"]
    assert row | {"createdAt": ""} == {
        "name": "nas",
        "address": f"file://{nas}",
        "state": "active",
        "hasCredentials": False,
        "recipients": [AGE],
        "hasDrillKey": False,
        "databases": [],
        "takesAll": True,
        "readBack": "sample",
        "bytesPerSecond": None,
        "takesCatalogue": "encrypted",
        "exportedAt": None,
        "exportError": "",
        "createdAt": "",
        "createdBy": "admin",
        "copies": 0,
        "size": 0,
    }
    changed = admin.patch(f"{BASE}/nas", json={"name": "disk", "bytesPerSecond": 10_000_000})
    assert changed.get_json()["store"]["bytesPerSecond"] == 10_000_000
    assert admin.get(f"{BASE}/nas").status_code == 404
    assert admin.get(f"{BASE}/disk").get_json()["readBack"] == "sample"
    assert [each["name"] for each in admin.get(BASE).get_json()["stores"]] == ["disk"]
    for verb, state in (("pause", "paused"), ("resume", "active")):
        assert admin.post(f"{BASE}/disk/{verb}").get_json()["store"]["state"] == state
    assert admin.delete(f"{BASE}/disk").get_json()["copiesLeft"] == 0
    assert admin.get(BASE).get_json() == {"stores": []}


def test_credentials_are_never_seen_again(
    app: Flask, admin: FlaskClient, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    keys = {"access_key_id": "AKIA", "secret_access_key": CANARY}
    answers = [
        admin.post(BASE, json=S3 | {"credentials": keys}),
        admin.get(f"{BASE}/s3"),
        admin.get(BASE),
        admin.patch(f"{BASE}/s3", json={"credentials": keys, "untested": True}),
        admin.post(f"{BASE}/test", json={"url": "file:///none", "credentials": keys}),
        admin.post(BASE, json=S3 | {"name": "x", "url": f"s3://a:{CANARY}@b/c"}),
        admin.get("/api/admin/settings"),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 200, 422, 200]
    assert answers[1].get_json()["hasCredentials"] is True
    spoken = [answer.text for answer in answers] + [caplog.text, json.dumps(entries(app))]
    assert CANARY not in "".join(spoken)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "../x", "url": "s3://bucket"}, 422),
        ({"name": "x", "url": "ftp://host"}, 422),
        ({"name": "x"}, 422),
        ({"name": "x", "url": "s3://bucket", "recipients": ["age1x"]}, 422),
        ({"name": "x", "url": "s3://bucket", "credentials": {"a": 1}}, 422),
        ({"name": "x", "url": "s3://bucket", "readBack": "seldom"}, 422),
        ({"name": "x", "url": "s3://bucket", "bytesPerSecond": 1}, 422),
        ({"name": "x", "url": "s3://bucket", "takeOver": "yes"}, 422),
        ({"name": "x", "url": "s3://bucket", "databases": ["none"]}, 404),
        ({"name": "x", "url": "file:///nowhere", "untested": False}, 502),
    ],
)
def test_what_cannot_be_meant_is_refused(admin: FlaskClient, body: dict, status: int):
    answer = admin.post(BASE, json={"untested": True} | body)
    assert answer.status_code == status, answer.text
    assert admin.get(BASE).get_json() == {"stores": []}


def test_a_store_of_another_panel_is_taken_over_only_on_request(admin: FlaskClient, nas: Path):
    (nas / MARKER).write_text(json.dumps({"panel": "theirs", "host": "db2"}))
    body = {"name": "nas", "url": f"file://{nas}"}
    refused = admin.post(BASE, json=body)
    assert (refused.status_code, "db2" in refused.get_json()["title"]) == (409, True)
    assert admin.post(BASE, json=body | {"takeOver": True}).status_code == 201


def test_a_store_is_tested_saved_or_not(admin: FlaskClient, nas: Path):
    report = admin.post(f"{BASE}/test", json={"url": f"file://{nas}"}).get_json()
    assert report["passed"] is True
    assert not (nas / MARKER).exists()
    admin.post(BASE, json={"name": "nas", "url": f"file://{nas}"})
    nas.rename(nas.with_name("away"))
    report = admin.post(f"{BASE}/nas/test").get_json()
    assert report["passed"] is False
    assert "mounted" in next(each["hint"] for each in report["steps"] if each["passed"] is False)
    assert admin.post(f"{BASE}/none/test").status_code == 404


def test_what_is_done_is_in_the_audit(app: Flask, admin: FlaskClient, nas: Path):
    known = len(entries(app))
    admin.post(BASE, json={"name": "nas", "url": f"file://{nas}"})
    admin.patch(f"{BASE}/nas", json={"readBack": "never"})
    admin.post(f"{BASE}/nas/test")
    admin.post(f"{BASE}/nas/pause")
    admin.delete(f"{BASE}/nas")
    found = [(each["action"], each["subject"], each["detail"]) for each in entries(app)[known:]]
    assert found == [
        ("store.create", "nas", f"file://{nas}"),
        ("store.update", "nas", "changed: read_back"),
        ("store.test", "nas", ""),
        ("store.pause", "nas", "paused"),
        ("store.delete", "nas", f"copies that stay at file://{nas}: 0"),
    ]
