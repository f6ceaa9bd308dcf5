"""Over the API: what the server of a database answers."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.postgres.connection_check import STEPS
from app.services.databases.lookup import default_database
from tests.conftest import NO_SERVER, Database

CANARY = "canary-pw"
BASE = "/api/admin/databases"


@pytest.fixture
def name(app: Flask) -> str:
    with app.app_context():
        return default_database().name


def add(admin: FlaskClient, name: str, url: str) -> None:
    assert admin.post(BASE, json={"name": name, "url": url}).status_code == 201


def test_a_connection_is_tested(admin: FlaskClient, name: str):
    report = admin.post(f"{BASE}/{name}/test").get_json()
    assert report["passed"] is True
    assert [step["name"] for step in report["steps"]] == list(STEPS)
    add(admin, "crm", NO_SERVER.replace("u:p@", f"u:{CANARY}@"))
    answer = admin.post(f"{BASE}/crm/test")
    assert answer.status_code == 200
    assert answer.get_json()["passed"] is False
    assert CANARY not in answer.text
    assert admin.post(f"{BASE}/none/test").status_code == 404


def test_the_sql_of_a_role_is_shown(admin: FlaskClient, name: str):
    path = f"{BASE}/{name}/grants"
    assert admin.get(path).get_json()["role"] == "backstop"
    answer = admin.get(path, query_string={"role": "keeper"}).get_json()
    assert answer["role"] == "keeper"
    assert 'CREATE ROLE "keeper" LOGIN;' in answer["sql"]
    assert admin.get(path, query_string={"role": "pg_x"}).status_code == 422
    add(admin, "crm", NO_SERVER)
    assert admin.get(f"{BASE}/crm/grants").status_code == 502


def test_databases_of_the_server_are_listed_and_added(
    admin: FlaskClient, name: str, new_database: Callable[..., Database]
):
    other, path = new_database(), f"{BASE}/{name}/discovery"
    rows = {row["dbname"]: row for row in admin.get(path).get_json()["databases"]}
    assert rows[other.name]["guardedAs"] is None
    assert rows[name]["guardedAs"] == name
    answer = admin.post(path, json={"databases": [{"dbname": other.name, "name": "other"}]})
    assert answer.status_code == 201
    assert [row["name"] for row in answer.get_json()["databases"]] == ["other"]
    schedules = admin.get("/api/admin/schedules?database=other").get_json()["schedules"]
    assert len(schedules) == 2
    again = admin.post(path, json={"databases": [{"dbname": other.name, "name": "more"}]})
    assert again.status_code == 409
    assert admin.post(path, json={}).status_code == 422
    assert admin.post(path, json={"databases": [{"dbname": "x"}]}).status_code == 422
