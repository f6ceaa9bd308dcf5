"""Sign in and out with JSON."""

import pytest
from flask import Flask
from sqlalchemy import select

from app.extensions import db
from app.models import AdminSession
from tests.api.test_downloads import is_problem
from tests.conftest import PASSWORD, signed_in

SESSION = "/api/admin/session"
RIGHT = {"username": "admin", "password": PASSWORD}


def sessions_of(app: Flask) -> set[str]:
    with app.app_context():
        return set(db.session.scalars(select(AdminSession.token_sha256)))


def test_signing_in_gives_a_cookie_that_works(panel: Flask):
    client = panel.test_client()
    answer = client.post(SESSION, json=RIGHT)
    assert answer.status_code == 200
    assert answer.get_json() == {"success": True, "username": "admin"}
    assert answer.headers["Set-Cookie"].startswith("backstop=")
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.get("/api/admin/backup").status_code == 200


def test_signing_out_takes_it_back(panel: Flask):
    client = signed_in(panel)
    answer = client.delete(SESSION)
    assert answer.status_code == 200
    assert answer.get_json() == {"success": True, "message": "Signed out"}
    assert is_problem(client.get("/api/admin/backup"), 401)
    assert is_problem(client.delete(SESSION), 401)


def test_an_unknown_user_and_a_wrong_password_are_not_told_apart(panel: Flask):
    wrong = panel.test_client().post(SESSION, json=RIGHT | {"password": "wrong password"})
    unknown = panel.test_client().post(SESSION, json=RIGHT | {"username": "nobody"})
    assert is_problem(wrong, 401)
    assert wrong.data == unknown.data
    assert "Set-Cookie" not in wrong.headers
    assert "Location" not in wrong.headers


JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", JSON, 422),
        (b"", None, 422),
        (b"{}", JSON, 422),
        (b'{"username": "admin"}', JSON, 422),
        (b'{"username": "admin", "password": null}', JSON, 422),
        (b'{"username": "admin", "password": 1}', JSON, 422),
        (b'{"username": ["admin"], "password": "x"}', JSON, 422),
        (b'{"username": "admin", "password": "x", "remember": true}', JSON, 422),
        (b'[["username", "admin"], ["password", "x"]]', JSON, 422),
        (b'"admin"', JSON, 422),
        (b"null", JSON, 422),
        (b'{"username": "admin", ', JSON, 400),
        (b"[" * 30_000, JSON, 400),
        (b'{"username": "admin", "password": "x"}', "text/plain", 415),
        (b"username=admin&password=x", "application/x-www-form-urlencoded", 415),
        (b'{"username": "' + b"x" * 70_000 + b'", "password": "x"}', JSON, 413),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_bad_body_signs_nobody_in(
    panel: Flask, body: bytes, content_type: str | None, status: int
):
    before = sessions_of(panel)
    client = panel.test_client()
    answer = client.post(SESSION, data=body, content_type=content_type)
    assert is_problem(answer, status)
    assert "Set-Cookie" not in answer.headers
    assert sessions_of(panel) == before


def test_a_password_is_never_told_again(panel: Flask):
    secret = "the password that was typed"
    client = panel.test_client()
    for body in ({"username": secret, "password": secret, secret: 1}, RIGHT | {"password": secret}):
        answer = client.post(SESSION, json=body)
        assert answer.get_json(force=True)["success"] is False
        if secret not in body:
            assert secret not in answer.text
