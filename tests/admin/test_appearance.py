"""Light or dark, remembered by a cookie."""

from http.cookies import SimpleCookie

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.admin.test_backups import Page, seen, sent
from tests.conftest import signed_in


@pytest.fixture
def ann(panel: Flask) -> FlaskClient:
    return signed_in(panel)


def theme_of(page: Page) -> tuple[str, str]:
    root = page.all("html")[0]
    return root["data-theme"], root["data-bs-theme"]


def test_the_theme_is_the_systems_until_one_is_chosen(panel: Flask, ann: FlaskClient):
    for client, url in ((ann, "/admin/backup"), (panel.test_client(), "/admin/login")):
        page = seen(client, url)
        assert theme_of(page) == ("auto", "light")
        scripts = [found["src"] for found in page.all("script")]
        assert scripts[0] == "/static/js/theme.js"  # before the body, so that nothing flashes


@pytest.mark.parametrize(
    ("theme", "shown"),
    [("dark", ("dark", "dark")), ("light", ("light", "light")), ("auto", ("auto", "light"))],
)
def test_a_chosen_theme_is_remembered_on_every_page(
    ann: FlaskClient, theme: str, shown: tuple[str, str]
):
    answer = sent(ann, "/admin/theme", theme=theme, next="/admin/backup?q=x")
    assert answer.status_code == 302
    assert answer.location == "/admin/backup?q=x"
    cookie = SimpleCookie(answer.headers["Set-Cookie"])["theme"]
    assert cookie["samesite"] == "Lax"
    assert int(cookie["max-age"]) >= 30 * 24 * 3600
    assert not cookie["secure"]
    page = seen(ann, "/admin/backup")
    assert theme_of(page) == shown
    assert page.all("option", value=theme, selected="")
    assert theme_of(seen(ann, "/admin/nothing", 404)) == shown
    ann.delete("/api/admin/session")
    assert theme_of(seen(ann, "/admin/login")) == shown


def test_the_cookie_is_secure_where_the_request_was(ann: FlaskClient, panel: Flask):
    https = {"base_url": "https://localhost"}
    client = panel.test_client()
    body = {"username": "admin", "password": "correct horse battery"}
    assert client.post("/api/admin/session", json=body, **https).status_code == 200
    page = Page(client.get("/admin/backup", **https))
    form = {"csrf_token": page.all("input", name="csrf_token")[0]["value"], "theme": "dark"}
    referer = {"Referer": "https://localhost/admin/backup"}
    answer = client.post("/admin/theme", data=form, headers=referer, **https)
    assert answer.status_code == 302
    assert SimpleCookie(answer.headers["Set-Cookie"])["__Host-theme"]["secure"]


@pytest.mark.parametrize("theme", ["", "blue", "DARK", '"><script>', "dark; Domain=evil.example"])
def test_an_unknown_theme_is_not_kept(ann: FlaskClient, theme: str):
    answer = sent(ann, "/admin/theme", theme=theme)
    assert answer.status_code == 302
    assert not [c for c in answer.headers.getlist("Set-Cookie") if c.startswith("theme")]


@pytest.mark.parametrize("value", ["", "blue", "x" * 3000, '"><script>alert(1)</script>'])
def test_a_cookie_of_nonsense_is_the_systems_theme(panel: Flask, value: str):
    client = panel.test_client()
    client.set_cookie("theme", value)
    answer = client.get("/admin/login")
    assert theme_of(Page(answer)) == ("auto", "light")
    assert "alert(1)" not in answer.text


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil", "", "x"])
def test_one_comes_back_to_our_own_pages_alone(ann: FlaskClient, target: str):
    answer = sent(ann, "/admin/theme", theme="dark", next=target)
    assert answer.location == "/admin/backup"
