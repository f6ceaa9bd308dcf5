"""The audit as JSON, and as JSON lines."""

import json

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.test_downloads import is_problem

AUDIT = "/api/admin/audit"
ROW = [
    "id", "at", "actor", "face", "origin", "action", "subject", "outcome", "detail",
    "previousHash", "hash",
]  # fmt: skip


def test_what_was_done_is_listed_filtered_and_exported(panel: Flask, ann: FlaskClient):
    body = {"name": "o'rders\u202e", "statement": "SELECT true"}
    ann.post("/api/admin/assertions", json=body)
    ann.post("/api/admin/assertions", json=body | {"name": "<b>'; --"})
    rows = ann.get(AUDIT).get_json()["entries"]
    assert sorted(rows[0]) == sorted(ROW)
    assert (rows[0]["actor"], rows[0]["face"], rows[0]["origin"]) == ("admin", "api", "127.0.0.1")
    assert [(each["action"], each["outcome"]) for each in rows] == [
        ("assertion.create", "done"), ("assertion.create", "refused"), ("session.create", "done"),
    ]  # fmt: skip
    assert rows[0]["subject"] == "<b>'; --"
    first = ann.get(AUDIT, query_string={"limit": 1, "action": "assertion"}).get_json()
    assert (first["entries"], first["nextBefore"]) == (rows[:1], rows[0]["id"])
    rest = ann.get(AUDIT, query_string={"before": first["nextBefore"], "from": rows[0]["at"][:10]})
    assert rest.get_json() == {"entries": rows[1:], "nextBefore": None}
    assert ann.get(AUDIT, query_string={"outcome": "failed"}).get_json()["entries"] == []
    exported = ann.get(f"{AUDIT}/export", query_string={"action": "assertion"})
    assert exported.content_type == "application/jsonl"
    assert [json.loads(each) for each in exported.text.splitlines()] == rows[1::-1]
    last = ann.get(AUDIT, query_string={"limit": 1}).get_json()["entries"][0]
    assert (last["action"], last["outcome"]) == ("audit.export", "done")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0}, {"limit": 201}, {"before": "x"}, {"before": "-1"}, {"outcome": "DONE"},
        {"from": "soon"}, {"to": "2026-13-01"}, {"offset": 5},
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told(ann: FlaskClient, query: dict):
    assert is_problem(ann.get(AUDIT, query_string=query), 422)
    query.pop("limit", None) or query.pop("before", None)
    if query:
        assert is_problem(ann.get(f"{AUDIT}/export", query_string=query), 422)


def test_nothing_changes_the_audit(ann: FlaskClient):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert is_problem(ann.open(AUDIT, method=method), 405)
