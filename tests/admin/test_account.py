"""One's own password, changed on a page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.extensions import writing
from app.services.access import admins
from tests.admin.test_backups import LIST, followed, seen, sent
from tests.conftest import PASSWORD, panel_in, signed_in

PAGE = "/admin/password"
NEW = "four random words do"
RIGHT = {"password": PASSWORD, "new": NEW, "again": NEW}
ADVICE = "Your password was generated"


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


@pytest.fixture
def ann(panel: Flask) -> FlaskClient:
    return signed_in(panel)


def test_a_password_is_changed_and_ends_all_other_sessions(panel: Flask, ann: FlaskClient):
    other = signed_in(panel)
    page = seen(ann, LIST)
    assert page.link("Change password") == PAGE
    fields = {each["name"]: each for each in seen(ann, PAGE).all("input") if "name" in each}
    assert fields["password"]["autocomplete"] == "current-password"
    assert fields["new"]["autocomplete"] == "new-password"
    assert "has been changed" in followed(ann, sent(ann, PAGE, PAGE, **RIGHT)).text
    assert other.get("/api/admin/backup").status_code == 401
    body = {"username": "admin", "password": NEW}
    assert other.post("/api/admin/session", json=body).status_code == 200


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"password": "not mine"}, "The password is wrong."),
        ({"password": ""}, "Your password is required."),
        ({"again": NEW.upper()}, "The two passwords differ."),
        ({"new": "short", "again": "short"}, "A password has 12 to 1000 characters."),
        ({"new": "backstop1234", "again": "backstop1234"}, "too easy to guess"),
    ],
)
def test_what_cannot_be_comes_back_with_the_reason(
    ann: FlaskClient, changed: dict[str, str], told: str
):
    answer = sent(ann, PAGE, PAGE, **RIGHT | changed)
    assert (answer.status_code, told in answer.text) == (422, True)
    assert NEW not in answer.text
    assert signed_in(ann.application)


def test_the_old_password_is_not_guessed_here_either(ann: FlaskClient):
    for _ in range(10):
        assert sent(ann, PAGE, PAGE, **RIGHT | {"password": "guess"}).status_code == 422
    answer = sent(ann, PAGE, PAGE, **RIGHT)
    assert (answer.status_code, "Retry-After" in answer.headers) == (429, True)


def test_who_has_the_generated_password_is_advised_to_change_it(panel: Flask, ann: FlaskClient):
    assert ADVICE not in seen(ann, LIST).text
    with panel.app_context(), writing():
        admins.get_admin("admin").password_generated = True
    page = seen(ann, LIST)
    assert ADVICE in page.text
    assert page.link("Change it") == PAGE
    assert ADVICE not in seen(ann, PAGE).text
    assert ADVICE not in followed(ann, sent(ann, PAGE, PAGE, **RIGHT)).text
