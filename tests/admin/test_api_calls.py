"""The calls of the API as a page, with and without JavaScript."""

from flask import Flask
from flask.testing import FlaskClient

from tests.admin.test_backups import seen

PAGE = "/admin/api"


def test_each_call_is_listed_with_what_it_does(ann: FlaskClient):
    page = seen(ann, PAGE)
    text = " ".join(page.text.split())
    assert "GET /api/admin/alarms " in text
    assert "DELETE /api/admin/backup/<filename> " in text
    assert page.link("described for programs") == "/api/openapi.json"
    assert len(page.all("tr")) > 80


def test_swagger_ui_comes_from_here_and_nothing_else_of_its_package_does(
    panel: Flask, ann: FlaskClient
):
    page = seen(ann, PAGE)
    for address in (
        *(link["href"] for link in page.all("link", rel="stylesheet")),
        *(script["src"] for script in page.all("script")),
    ):
        assert address.startswith("/")
        assert ann.get(address, buffered=True).status_code == 200
    for name in ("index.css", "oauth2-redirect.html", "..%2f__init__.py"):
        assert ann.get(f"{PAGE}/assets/{name}").status_code == 404
    stranger = panel.test_client()
    assert stranger.get(f"{PAGE}/assets/swagger-ui.css").status_code == 302
