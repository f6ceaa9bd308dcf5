"""The pages of stores: the list, one of them, its test, its recovery key and its removal."""

import json
import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.encryption import parse_identity
from app.services.databases.service import add_database
from app.services.stores.ownership import MARKER
from tests.admin.test_backups import seen, token_on
from tests.services.health.test_figures import counting
from tests.test_auditing import entries

BASE, CANARY = "/admin/stores", "canary-secret"
AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
DEFAULTS = {"all_databases": "y", "read_back": "always"}


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    folder.mkdir()
    return folder


def send(client: FlaskClient, path: str, status: int = 302, **fields: object) -> str:
    form = {"csrf_token": token_on(client, f"{BASE}/new")} | fields
    answer = client.post(f"{BASE}{path}", data=form)
    assert answer.status_code == status, answer.text
    return answer.text


def add(client: FlaskClient, name: str, url: str, status: int = 302, **more: object) -> str:
    return send(client, "", status, **{"name": name, "url": url} | DEFAULTS | more)


def test_a_store_is_added_changed_paused_and_removed(admin: FlaskClient, nas: Path):
    assert "None yet" in seen(admin, BASE).text
    add(admin, "nas", f"file://{nas}", limit="10MB", recipients=f"{AGE}\r\n")
    page = seen(admin, f"{BASE}/nas")
    assert f"file://{nas} , active, 0 copies" in page.text
    assert page.all("input", name="limit")[0]["value"] == "10MB"
    assert AGE in page.text
    url = {"url": f"file://{nas}"}
    send(admin, "/nas", **url | DEFAULTS | {"name": "disk", "read_back": "never"})
    assert "Copies are not encrypted" in seen(admin, f"{BASE}/disk").text
    for verb, state in (("pause", "paused"), ("resume", "active")):
        send(admin, f"/disk/{verb}")
        assert f"{nas} , {state}, 0 copies" in seen(admin, f"{BASE}/disk").text
    assert "Active" in seen(admin, BASE).text
    asked = seen(admin, f"{BASE}/disk/delete")
    assert "Nothing is removed from the store itself: 0 copies stay" in asked.text
    send(admin, "/disk/delete")
    assert f"disk has been removed. 0 copies stay at file://{nas}." in seen(admin, BASE).text
    assert (nas / MARKER).exists()


def test_credentials_are_stored_kept_and_forgotten_but_never_shown(app: Flask, admin: FlaskClient):
    keys = f"access_key_id=AKIA\nsecret_access_key={CANARY}"
    answers = [add(admin, "s3", "s3://bucket/p", credentials=keys, untested="y")]
    pages = [admin.get(f"{BASE}/s3").text, admin.get(BASE).text]
    assert "stored encrypted and not shown; leave this empty" in pages[0]
    same = {"name": "s3", "url": "s3://bucket/p", "untested": "y"} | DEFAULTS
    answers.append(send(admin, "/s3", **same))
    assert "Forget the stored ones" in seen(admin, f"{BASE}/s3").text
    answers.append(send(admin, "/s3", **same, no_credentials="y"))
    assert "None are stored" in seen(admin, f"{BASE}/s3").text
    assert CANARY not in "".join(answers + pages) + json.dumps(entries(app))


@pytest.mark.parametrize(
    ("fields", "why", "status"),
    [
        ({"name": "../x"}, "is not a valid name of a store", 422),
        ({"url": f"s3://AKIA:{CANARY}@bucket"}, "contains credentials", 422),
        ({"url": "file:///nowhere"}, "Is it mounted?", 502),
        ({"credentials": "x"}, "The credentials cannot be read", 422),
        ({"recipients": "age1x"}, "Not a public key for age", 422),
        ({"limit": "fast"}, "The limit must be a rate such as 10MB", 422),
        ({"read_back": "seldom"}, "Copies are read back always, sample, never", 422),
        ({"all_databases": ""}, "No database is chosen", 422),
        ({"all_databases": "", "databases": "none"}, "No database is named", 404),
    ],
)
def test_what_cannot_be_meant_is_said(
    admin: FlaskClient, nas: Path, fields: dict, why: str, status: int
):
    given = {"name": "nas", "url": f"file://{nas}"} | fields
    assert why in add(admin, given.pop("name"), given.pop("url"), status, **given)
    assert "None yet" in seen(admin, BASE).text


def test_a_store_is_tested_before_it_is_saved_and_after(admin: FlaskClient, nas: Path):
    form = {"name": "nas", "url": f"file://{nas}", "credentials": ""} | DEFAULTS
    tested = send(admin, "/-/test", 200, **form)
    assert tested.count("Passed") >= 6
    assert f'value="file://{nas}"' in tested
    assert "None yet" in seen(admin, BASE).text
    add(admin, "nas", f"file://{nas}")
    nas.rename(nas.with_name("away"))
    failed = send(admin, "/nas/test", 200)
    assert "Is it mounted?" in failed
    assert "Failed" in failed


def test_a_store_of_another_panel_is_named_and_taken_over(admin: FlaskClient, nas: Path):
    theirs = {"panel": "<b>theirs</b>", "host": "<script>alert(1)</script>"}
    (nas / MARKER).write_text(json.dumps(theirs))
    refused = add(admin, "nas", f"file://{nas}", 409)
    assert "another panel on &lt;script&gt;" in refused
    assert "<script>alert" not in refused
    add(admin, "nas", f"file://{nas}", take_over="y")


def test_a_store_takes_some_databases(app: Flask, admin: FlaskClient, nas: Path):
    with app.app_context():
        add_database("crm", "postgresql://u@h/crm", by="ann")
    add(admin, "nas", f"file://{nas}", all_databases="", databases=["crm"])
    assert 'id="database-crm" value="crm" checked' in admin.get(f"{BASE}/nas").text
    assert "crm" in seen(admin, BASE).text


def test_a_recovery_key_is_shown_once_and_kept_nowhere(app: Flask, admin: FlaskClient, nas: Path):
    add(admin, "nas", f"file://{nas}")
    form = {"csrf_token": token_on(admin, f"{BASE}/nas")}
    shown = admin.post(f"{BASE}/nas/recovery-key", data=form)
    assert shown.status_code == 200
    assert shown.headers["Cache-Control"] == "no-store"
    secret = re.search(r"AGE-SECRET-KEY-\w+", shown.text)
    assert secret is not None
    identity = parse_identity(secret[0])
    page = seen(admin, f"{BASE}/nas")
    assert identity.recipient.key in page.text
    settings = app.extensions["backstop.settings"]
    kept = b"".join(
        path.read_bytes() for path in settings.instance_dir.rglob("*") if path.is_file()
    )
    assert secret[0] not in admin.get(f"{BASE}/nas").text + json.dumps(entries(app))
    assert secret[0].encode() not in kept
    assert entries(app)[-1]["action"] == "store.recovery_key"


def test_twenty_stores_cost_as_many_statements_as_two(app: Flask, admin: FlaskClient):
    def cost() -> int:
        with app.app_context(), counting() as statements:
            seen(admin, BASE)
        return len(statements)

    add(admin, "s0", "s3://bucket/0", untested="y")
    few = cost()
    for number in range(1, 20):
        add(admin, f"s{number}", f"s3://bucket/{number}", untested="y")
    assert cost() == few


def test_a_drill_key_is_made_and_forgotten(app: Flask, admin: FlaskClient, nas: Path):
    add(admin, "nas", f"file://{nas}")
    assert "Make a recovery key first." in seen(admin, f"{BASE}/nas").text
    send(admin, "/nas/drill-key")
    assert "opies in nas are not encrypted" in seen(admin, f"{BASE}/nas").text
    send(admin, "/nas/recovery-key", 200)
    send(admin, "/nas/drill-key")
    page = seen(admin, f"{BASE}/nas")
    assert "The panel can read later copies." in page.text
    assert "Forget the drill key" in page.text
    send(admin, "/nas/drill-key/forget")
    assert "Forget the drill key" not in seen(admin, f"{BASE}/nas").text
    acts = [entry["action"] for entry in entries(app)]
    assert acts[-2:] == ["store.drill_key", "store.forget_key"]
    assert "AGE-SECRET-KEY" not in json.dumps(entries(app))
