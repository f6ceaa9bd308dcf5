"""The sign-in page, and the ways out."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.admin.test_backups import Page, followed, seen, sent
from tests.conftest import PASSWORD, panel_in, signed_in

LOGIN = "/admin/login"
RIGHT = {"username": "admin", "password": PASSWORD}


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


@pytest.fixture
def visitor(panel: Flask) -> FlaskClient:
    return panel.test_client()


def tried(client: FlaskClient, url: str = LOGIN, **fields: str) -> TestResponse:
    return sent(client, url, page=url, **RIGHT | fields)


def test_signing_in_leads_to_the_backups(visitor: FlaskClient):
    page = seen(visitor, LOGIN)
    fields = {found["name"]: found for found in page.all("input") if "name" in found}
    assert fields["password"]["type"] == "password"
    assert fields["password"]["autocomplete"] == "current-password"
    assert fields["username"]["autocomplete"] == "username"
    answer = tried(visitor)
    assert answer.location == "/admin/"
    page = followed(visitor, answer)
    assert "admin" in page.within("summary")


def test_one_gets_where_one_wanted_to_go(visitor: FlaskClient):
    wanted = "/admin/backup?q=a%20b&status=FAILED"
    refused = visitor.get(wanted)
    assert refused.status_code == 302
    assert refused.location.startswith(f"{LOGIN}?")
    assert tried(visitor, refused.location).location in (wanted, wanted.replace("%20", "+"))


def test_a_form_that_was_sent_too_late_is_not_sent_again_by_itself(visitor: FlaskClient):
    refused = visitor.post("/admin/backup", data={"notes": "x"})
    assert refused.location == LOGIN


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "https://evil.example",
        "http:evil.example",
        "javascript:alert(1)",
        "/admin\n",
        "/admin\r\nX-Forged: 1",
        "admin/backup",
        "/admin\\@evil.example",
        "",
    ],
)
def test_nobody_is_sent_to_another_site(visitor: FlaskClient, target: str):
    answer = tried(visitor, f"{LOGIN}?{urlencode({'next': target})}")
    assert answer.status_code == 302
    assert answer.location == "/admin/"
    assert "X-Forged" not in answer.headers


def test_an_unknown_user_and_a_wrong_password_get_the_same_page(visitor: FlaskClient):
    wrong = tried(visitor, password="wrong password")
    unknown = tried(visitor, username="nobody")
    assert wrong.status_code == unknown.status_code == 401
    told = [Page(each).text for each in (wrong, unknown)]
    assert "The username or the password is wrong" in told[0]
    assert told[0] == told[1]
    assert seen(visitor, LOGIN)


def test_what_was_typed_stays_but_for_the_password(visitor: FlaskClient):
    answer = tried(visitor, username="nobody", password="wrong password")
    fields = {found["name"]: found for found in Page(answer).all("input") if "name" in found}
    assert fields["username"]["value"] == "nobody"
    assert fields["password"]["value"] == ""
    assert "wrong password" not in answer.text


@pytest.mark.parametrize(
    "fields",
    [
        {"username": ""},
        {"password": ""},
        {"username": "x" * 65},
        {"password": "x" * 1001},
        {"username": "admin\0"},
        {"username": "\ufffd"},
    ],
    ids=lambda each: ascii(each)[:40],
)
def test_fields_that_cannot_be_right_sign_nobody_in(visitor: FlaskClient, fields: dict[str, str]):
    answer = tried(visitor, **fields)
    assert answer.status_code in (401, 422)
    assert "Sign in" in Page(answer).text
    assert visitor.get("/admin/backup").status_code == 302


def test_bytes_that_are_no_text_sign_nobody_in(visitor: FlaskClient):
    token = seen(visitor, LOGIN).all("input", name="csrf_token")[0]["value"]
    body = f"csrf_token={quote(token)}&username=%ED%A0%80%FF&password=%ED%A0%80"
    answer = visitor.post(LOGIN, data=body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 401


def test_signing_in_needs_the_forms_token(visitor: FlaskClient):
    """Else another site could sign its victim in as somebody else."""
    assert visitor.post(LOGIN, data=RIGHT).status_code == 400
    assert visitor.post(LOGIN, data=RIGHT | {"csrf_token": "x"}).status_code == 400
    assert visitor.post(LOGIN, json=RIGHT).status_code == 400
    assert visitor.get("/admin/backup").status_code == 302


def test_signing_out_leads_to_the_sign_in_page(panel: Flask):
    client, other = signed_in(panel), signed_in(panel)
    page = followed(client, sent(client, "/admin/logout"))
    assert "Signed out." in page.text
    assert client.get("/admin/backup").location.startswith(LOGIN)
    assert seen(other, "/admin/backup")


def test_signing_out_everywhere_ends_the_other_sessions_too(panel: Flask):
    client, other = signed_in(panel), signed_in(panel)
    page = followed(client, sent(client, "/admin/logout/everywhere"))
    assert "Signed out everywhere." in page.text
    assert other.get("/admin/backup").status_code == 302


@pytest.mark.parametrize("url", ["/admin/logout", "/admin/logout/everywhere"])
def test_a_link_signs_nobody_out(panel: Flask, url: str):
    client = signed_in(panel)
    assert client.get(url).status_code == 405
    assert client.post(url).status_code == 400
    assert seen(client, "/admin/backup")


def test_who_is_signed_in_may_sign_in_as_somebody_else(panel: Flask):
    client = signed_in(panel)
    assert tried(client).status_code == 302
    assert seen(client, "/admin/backup")
