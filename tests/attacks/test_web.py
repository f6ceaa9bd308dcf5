"""What strangers and guests try on the panel's pages and API, and that nothing comes of it."""

import io
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.routing import Rule
from wtforms.fields.core import UnboundField

from app.admin import forms
from app.extensions import db, writing
from app.models import AuditEntry, Kind, Trigger
from app.services.backups.listing import get_backup
from app.services.copies.queue import new_copy
from app.services.stores.service import Asking, add_store
from tests.admin.test_backups import token_on
from tests.api.test_downloads import planted
from tests.api.test_restores import planted_restore
from tests.api.test_schedules import planted_schedules
from tests.conftest import signed_in

LOGIN = "/admin/login"
SESSION = "/api/admin/session"


@pytest.fixture(scope="module")
def arguments(panel: Flask, ann: FlaskClient) -> dict[str, str]:
    """Something that exists, for each argument of a page's address."""
    filename = planted(panel)
    notifier = {"name": "n", "url": "json://127.0.0.1:1/x", "enabled": False}
    assertion = {"name": "one", "statement": "SELECT true"}
    database = {"name": "crm", "url": "postgresql://u@127.0.0.1:1/d"}
    assert ann.post("/api/admin/databases", json=database).status_code == 201
    with panel.app_context():
        store = add_store("crm", "file:///nowhere", asking=Asking(is_asked=False), by="ann")
        with writing() as session:
            copy = new_copy(get_backup(filename), store, trigger=Trigger.CLI)
            session.add(copy)
            session.flush()
            copy_id = copy.id
    return {
        "copy_id": copy_id,
        "name": "crm",
        "filename": filename,
        "restore_id": planted_restore(panel, filename),
        "schedule_id": planted_schedules(panel, 1)[0],
        "notifier_id": ann.post("/api/admin/notifiers", json=notifier).json["notifier"]["id"],
        "assertion_id": ann.post("/api/admin/assertions", json=assertion).json["assertion"]["id"],
    }


def pages_with_forms(app: Flask) -> list[Rule]:
    """Every address that takes a form; what ends the session comes last."""
    rules = [each for each in app.url_map.iter_rules() if each.endpoint.startswith("admin.")]
    found = [each for each in rules if "POST" in (each.methods or ())]
    assert len(found) > 30
    return sorted(found, key=lambda rule: "logout" in rule.rule)


def address_of(rule: Rule, arguments: dict[str, str]) -> str:
    built = rule.build({name: arguments[name] for name in rule.arguments})
    assert built is not None
    return built[1]


def names_of_fields() -> list[str]:
    classes = [each for each in vars(forms).values() if isinstance(each, type)]
    fields = [name for each in classes for name in dir(each)]
    found = {name for name in fields for each in classes if is_field(getattr(each, name, None))}
    assert {"password", "keep_last", "facts", "confirm"} <= found
    return sorted(found | {"theme", "next", "try"})


def is_field(value: object) -> bool:
    return isinstance(value, UnboundField)


def entries(app: Flask) -> int:
    with app.app_context():
        return db.session.scalar(select(func.count(AuditEntry.id))) or 0


def test_no_form_takes_a_file(panel: Flask, ann: FlaskClient, arguments: dict[str, str]):
    token = token_on(ann)
    for rule in pages_with_forms(panel):
        files = {name: (io.BytesIO(b"x" * 20), "x") for name in names_of_fields()}
        answer = ann.post(address_of(rule, arguments), data={"csrf_token": token} | files)
        assert answer.status_code == 415, rule
        assert "takes a file" in answer.text


@pytest.mark.parametrize("value", [5, [1], {"a": 1}, None, True, "a\0\ud800"], ids=repr)
def test_no_form_takes_json(panel: Flask, arguments: dict[str, str], value: object):
    client = signed_in(panel)
    headers = {"X-CSRFToken": token_on(client)}
    body = dict.fromkeys(names_of_fields(), value)
    for rule in pages_with_forms(panel):
        for content in (body, [value]):
            answer = client.post(address_of(rule, arguments), json=content, headers=headers)
            assert answer.status_code < 500 or answer.status_code == 502, (rule, answer.text)


def test_a_flood_of_broken_requests_of_nobody_is_recorded_once(panel: Flask):
    before = entries(panel)
    visitor = panel.test_client()
    token = token_on(visitor, LOGIN)
    for _ in range(30):
        file = {"password": (io.BytesIO(b"x"), "x")}
        visitor.post(LOGIN, data={"csrf_token": token, "username": "x"} | file)
        visitor.post(LOGIN, data={"username": "x"}, content_type="multipart/form-data")
        visitor.post(LOGIN, json={"password": 5}, headers={"X-CSRFToken": token})
        visitor.post(SESSION, data="x")
        visitor.post(SESSION, json={"username": 1})
    assert entries(panel) - before <= 5


def test_what_fails_for_nobody_is_recorded_once(panel: Flask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.auth.sign_in", lambda *_: 1 / 0)
    panel.testing, before = False, entries(panel)
    for _ in range(5):
        answer = panel.test_client().post(SESSION, json={"username": "a", "password": "b"})
        assert answer.status_code == 500
    assert entries(panel) - before == 1


@pytest.mark.parametrize("path", ["backup", "audit", "audit/export", "backup/{filename}/contents"])
def test_a_search_longer_than_a_pattern_may_be_is_refused(
    ann: FlaskClient, arguments: dict[str, str], path: str
):
    url = f"/api/admin/{path}".format(**arguments)
    assert ann.get(url, query_string={"q": "a" * 200}).status_code == 200
    answer = ann.get(url, query_string={"q": "a" * 60_000})
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")


@pytest.mark.parametrize("word", ["yes", "on", "off", "no", "true", "", 1, 0, [True]])
def test_only_true_and_false_are_true_and_false(
    ann: FlaskClient, arguments: dict[str, str], word: object
):
    backup = f"/api/admin/backup/{arguments['filename']}"
    for method, url, body in (
        ("PATCH", "/api/admin/settings", {"settings": {}, "dryRun": word}),
        ("PATCH", "/api/admin/settings", {"settings": {}, "exact": word}),
        ("POST", f"{backup}/restores", {"mode": "beside", "confirmSuperuser": word}),
        ("POST", "/api/admin/backup/prune", {"dryRun": word}),
        ("PATCH", f"/api/admin/notifiers/{arguments['notifier_id']}", {"enabled": word}),
        ("PATCH", f"/api/admin/schedules/{arguments['schedule_id']}", {"enabled": word}),
    ):
        answer = ann.open(url, method=method, json=body)
        assert answer.status_code == 422, (url, answer.text)
        assert "Not true or false." in answer.json["detail"]
    assert ann.get("/api/admin/alarms", query_string={"open": "on"}).status_code == 422
    for open_ in ("true", "false"):
        assert ann.get("/api/admin/alarms", query_string={"open": open_}).status_code == 200


def test_the_living_database_and_what_is_kept_of_it_take_the_password(panel: Flask):
    """Over the API as on the pages: a session left open is not enough."""
    client = signed_in(panel)
    filename = planted(panel)
    restore = planted_restore(panel, filename, kind=Kind.REPLACE, kept="shop_before")
    pages, api = f"/admin/restores/{restore}", f"/api/admin/restores/{restore}"
    named = {"name": "shop_restored", "confirm": "shop"}
    form = {"csrf_token": token_on(client)} | named
    for password in ({}, {"password": ""}, {"password": "guessed"}, {"password": "x" * 1001}):
        for answer in (
            *(
                client.post(
                    f"/api/admin/backup/{filename}/restores",
                    json={"mode": mode, "confirm": "shop"} | password,
                )
                for mode in ("replace", "in place")
            ),
            client.post(f"{api}/undo", json=password),
            client.delete(f"{api}/kept", json=password),
            *(
                client.post(
                    f"/admin/backup/{filename}/restore", data=form | {"mode": mode} | password
                )
                for mode in ("replace", "in place")
            ),
            client.post(f"{pages}/undo", data=form | password),
            client.post(f"{pages}/drop", data=form | password),
        ):
            assert answer.status_code in (422, 429), answer.request.path
            assert re.search("password|failed sign-ins", answer.text), answer.text
    rows = client.get(api).json
    assert (rows["kept"], rows["undoneAt"], rows["droppedAt"]) == ("shop_before", None, None)
    found = client.get("/api/admin/restores").json["restores"]
    assert {each["kind"] for each in found if each["filename"] == filename} == {"replace"}
    assert len([each for each in found if each["filename"] == filename]) == 1
