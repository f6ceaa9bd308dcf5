"""Assertions as JSON: each call, each answer, and what it does not take."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.test_downloads import is_problem

ASSERTIONS = "/api/admin/assertions"
ROW = {"id", "name", "statement", "server", "database", "createdAt", "createdBy"}


@pytest.fixture(autouse=True)
def none_left(panel: Flask, ann: FlaskClient):
    yield
    for each in ann.get(ASSERTIONS).get_json()["assertions"]:
        ann.delete(f"{ASSERTIONS}/{each['id']}")


def added(ann: FlaskClient, name: str = "orders", statement: str = "SELECT true") -> dict:
    answer = ann.post(ASSERTIONS, json={"name": name, "statement": statement})
    assert answer.status_code == 201, answer.text
    return answer.get_json()["assertion"]


def test_one_is_added_listed_changed_and_deleted(ann: FlaskClient):
    row = added(ann, statement="SELECT '<b>' <> E'\\n' -- ü\n;")
    assert set(row) == ROW
    assert (row["name"], row["statement"], row["createdBy"]) == (
        "orders", "SELECT '<b>' <> E'\\n' -- ü\n;", "admin",
    )  # fmt: skip
    assert ann.get(ASSERTIONS).get_json() == {"assertions": [row]}
    url = f"{ASSERTIONS}/{row['id']}"
    answer = ann.patch(url, json={"name": "all orders"})
    assert answer.get_json() == {"success": True, "assertion": row | {"name": "all orders"}}
    answer = ann.patch(url, json={"statement": "SELECT 1 = 1"})
    assert answer.get_json()["assertion"]["statement"] == "SELECT 1 = 1"
    assert ann.delete(url).get_json() == {"success": True, "message": "Assertion deleted"}
    assert ann.get(ASSERTIONS).get_json() == {"assertions": []}
    for call in (ann.delete(url), ann.patch(url, json={"name": "x"})):
        assert is_problem(call, 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "a"},
        {"statement": "SELECT true"},
        {"name": None, "statement": "SELECT true"},
        {"name": "a", "statement": ["SELECT true"]},
        {"name": "a", "statement": "SELECT true", "server": "elsewhere"},
        {"name": "a\n", "statement": "\0"},
        {"name": "a\u202eb", "statement": "SELECT true"},
        {"name": "a", "statement": ""},
        {"name": "a" * 101, "statement": "SELECT true"},
    ],
)
def test_what_cannot_be_meant_is_not_kept(ann: FlaskClient, body: dict):
    assert is_problem(ann.post(ASSERTIONS, json=body), 422)
    assert ann.get(ASSERTIONS).get_json() == {"assertions": []}


def test_a_taken_name_and_a_body_that_is_none(ann: FlaskClient):
    row, other = added(ann), added(ann, "others")
    assert is_problem(ann.post(ASSERTIONS, json={"name": "orders", "statement": "SELECT 1"}), 409)
    assert is_problem(ann.patch(f"{ASSERTIONS}/{other['id']}", json={"name": "orders"}), 409)
    assert is_problem(ann.patch(f"{ASSERTIONS}/{row['id']}", json={"id": "mine"}), 422)
    assert is_problem(ann.post(ASSERTIONS, data="name=a&statement=b"), 415)
    assert is_problem(ann.delete(f"{ASSERTIONS}/{row['id']}", json={"all": True}), 422)
    hostile = "x'; DROP TABLE assertions; --"
    assert is_problem(ann.delete(f"{ASSERTIONS}/{hostile}"), 404)
    assert len(ann.get(ASSERTIONS).get_json()["assertions"]) == 2
