"""On the pages: what the server of a database answers."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.services.databases.lookup import default_database, list_databases
from app.services.databases.service import add_database
from tests.conftest import NO_SERVER, Database
from tests.test_auditing import form_of

CANARY = "canary-pw"
BASE = "/admin/databases"


@pytest.fixture
def name(app: Flask) -> str:
    with app.app_context():
        return default_database().name


def test_a_connection_is_tested_on_the_page_of_its_database(
    app: Flask, admin: FlaskClient, name: str
):
    path = f"{BASE}/{name}"
    page = admin.post(f"{path}/test", data=form_of(admin, path)).text
    assert page.count("Passed") > 4
    assert "Failed" not in page
    with app.app_context():
        add_database("crm", NO_SERVER.replace("u:p@", f"u:{CANARY}@"), by="ann")
    page = admin.post(f"{BASE}/crm/test", data=form_of(admin, f"{BASE}/crm")).text
    assert "Failed" in page
    assert "not tried" in page
    assert CANARY not in page


def test_a_connection_is_tested_before_it_is_saved(
    app: Flask, admin: FlaskClient, common_shop: Database
):
    form = form_of(admin, f"{BASE}/new", name="", url=common_shop.url)
    answer = admin.post(f"{BASE}/-/test", data=form)
    assert answer.status_code == 200
    assert answer.text.count("Passed") > 4
    assert "host=" in answer.text  # the URL need not be entered again to save it
    with app.app_context():
        assert list_databases() == []
    refused = admin.post(f"{BASE}/-/test", data=form | {"url": "crm"})
    assert refused.status_code == 422
    assert "not a PostgreSQL URL" in refused.text


def test_the_sql_of_a_role_is_there_to_copy(app: Flask, admin: FlaskClient, name: str):
    path = f"{BASE}/{name}"
    assert f"{path}/grants" in admin.get(path).text
    page = admin.get(f"{path}/grants?role=keeper").text
    assert "CREATE ROLE &#34;keeper&#34; LOGIN;" in page
    refused = admin.get(f"{path}/grants?role=pg_x")
    assert refused.status_code == 422
    assert "not a valid name of a role" in refused.text
    with app.app_context():
        add_database("crm", NO_SERVER, by="ann")
    assert admin.get(f"{BASE}/crm/grants").status_code == 502


def test_databases_of_the_server_are_chosen_on_a_page(
    app: Flask, admin: FlaskClient, name: str, new_database: Callable[..., Database]
):
    new_database("Some other"), new_database("not this")
    path = f"{BASE}/{name}/discovery"
    assert path in admin.get(f"{BASE}/{name}").text
    assert 'value="some-other"' in admin.get(path).text
    form = form_of(admin, path, dbname="Some other")
    refused = admin.post(path, data=form | {"name of Some other": "Other!"})
    assert refused.status_code == 422
    assert "not a valid name" in refused.text
    assert 'value="Other!"' in refused.text
    assert 'value="Some other" checked' in refused.text
    added = admin.post(path, data=form | {"name of Some other": "other"}, follow_redirects=True)
    assert "Guarded now: other." in added.text
    with app.app_context():
        assert {database.name for database in list_databases()} == {name, "other"}


def test_a_server_that_is_down_is_named_on_the_page(app: Flask, admin: FlaskClient):
    with app.app_context():
        add_database("crm", NO_SERVER, by="ann")
    answer = admin.get(f"{BASE}/crm/discovery")
    assert answer.status_code == 502
    assert "no connection" in answer.text.lower()
