"""Errors told over HTTP, what every answer carries, and what other sites may not do."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from app import errors
from app.extensions import writing
from app.problems import STATUSES, status_of
from app.services.backups import listing
from app.services.backups import service as backups
from tests.api.test_downloads import fetched, is_problem, planted, state_of
from tests.conftest import Database, as_catalogue, panel_in, signed_in


def is_error_page(answer: TestResponse, status: int) -> bool:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "text/html; charset=utf-8"
    assert f"<title>{status} – Backstop</title>" in answer.text
    assert 'href="/"' in answer.text
    return True


def all_errors(kind: type[errors.AppError] = errors.AppError) -> list[type[errors.AppError]]:
    return [each for child in kind.__subclasses__() for each in [child, *all_errors(child)]]


#: They say when to ask again.
_LATER = (errors.TooManyAttempts, errors.Busy)


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_of_its_own_or_of_its_kind(kind: type[errors.AppError]):
    more: dict[str, Any] = {"retry_after": 1} if kind in _LATER else {}
    status = status_of(kind("it happened", **more))
    assert 400 <= status < 600
    assert status == next(STATUSES[each] for each in kind.__mro__ if each in STATUSES)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound("no such thing", hint="Look again."), 404),
        (errors.Conflict("it is in the way"), 409),
        (errors.InvalidInput("it cannot be meant", detail="It is too long."), 422),
        (errors.Forbidden("no"), 403),
        (errors.TooManyAttempts("too many", retry_after=17), 429),
        (errors.ConfigurationError("a setting is wrong"), 500),
        (errors.DumpError("pg_dump failed", detail="It said no.", hint="Ask it."), 502),
        (errors.ObjectMissing("the file is gone"), 404),
        (errors.StorageFull("no space"), 507),
        (errors.VerificationError("it changed"), 502),
        (errors.Interrupted("it was ended"), 503),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_told_as_a_problem_and_as_a_page(
    ann: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: errors.AppError, status: int
):
    for name in ("list_backups", "get_backup"):
        monkeypatch.setattr(listing, name, raising(error))
    answer = ann.get("/api/admin/backup")
    assert is_problem(answer, status)
    assert answer.get_json(force=True) == {
        "success": False,
        "title": error.message,
        "status": status,
        "detail": error.detail or error.message,
        "hint": error.hint,
    }
    page = ann.get("/admin/backup/one")
    assert is_error_page(page, status)
    assert error.message[1:] in page.text
    assert error.detail in page.text
    assert error.hint in page.text
    retry_after = str(getattr(error, "retry_after", "")) or None
    assert answer.headers.get("Retry-After") == page.headers.get("Retry-After") == retry_after


def test_what_an_error_says_is_escaped_on_its_page(
    ann: FlaskClient, monkeypatch: pytest.MonkeyPatch
):
    hostile = "<script>alert(1)</script>"
    error = errors.Conflict(hostile, detail=hostile, hint=f'"{hostile}')
    monkeypatch.setattr(listing, "list_backups", raising(error))
    page = ann.get("/admin/backup").text
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("signed_in_or_not", [True, False])
@pytest.mark.parametrize(
    "path",
    ["/api", "/api/", "/api/x", "/api/admin", "/api/admin/", "/api/admin/backups", "/api/%00"],
)
def test_an_unknown_address_under_api_is_a_problem(
    panel: Flask, ann: FlaskClient, path: str, signed_in_or_not: bool
):
    client = ann if signed_in_or_not else panel.test_client()
    for method in ("GET", "POST", "PATCH", "DELETE", "PUT"):
        assert is_problem(fetched(client, path, method), 404)


@pytest.mark.parametrize("path", ["/api//admin/backup", "/api/admin//backup"])
def test_a_doubled_slash_under_api_is_a_problem_and_no_redirect(panel: Flask, path: str):
    assert is_problem(panel.test_client().get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/admin/backup", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("POST", "/api/admin/backup/x", {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"}),
        ("DELETE", "/api/admin/backup/x/details", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/api/admin/session", {"POST", "DELETE", "OPTIONS"}),
        ("TRACE", "/api/admin/backup", {"GET", "HEAD", "POST", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_a_problem_that_says_which_are_right(
    ann: FlaskClient, method: str, path: str, allowed: set[str]
):
    answer = fetched(ann, path, method)
    assert is_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/x", "/admin/x", "/admin/backup/x/y/z", "/apis", "/%00"])
def test_an_unknown_address_elsewhere_is_a_page(ann: FlaskClient, path: str):
    assert is_error_page(ann.get(path), 404)


def test_a_wrong_method_on_a_page_is_a_page(ann: FlaskClient):
    answer = ann.put("/admin/backup")
    assert is_error_page(answer, 405)
    assert "POST" in answer.headers["Allow"]


def test_a_bug_is_told_without_its_words_and_logged_with_them(
    ann: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    bug = RuntimeError("internal words: /root/secret postgresql://u:p@h/d")
    for name in ("list_backups", "get_backup"):
        monkeypatch.setattr(listing, name, raising(bug))
    for name in ("edit_notes", "queue_backup", "delete_backup", "open_backup"):
        monkeypatch.setattr(backups, name, raising(bug))
    answers = [
        ann.get("/api/admin/backup"),
        ann.post("/api/admin/backup"),
        ann.get("/api/admin/backup/x/details"),
        ann.get("/api/admin/backup/x"),
        ann.patch("/api/admin/backup/x", json={"notes": ""}),
        ann.delete("/api/admin/backup/x"),
    ]
    pages = [ann.get("/admin/backup"), ann.get("/admin/backup/x")]
    for answer in answers:
        assert is_problem(answer, 500)
        assert answer.headers["Cache-Control"] == "no-store"
    for page in pages:
        assert is_error_page(page, 500)
    for each in answers + pages:
        for word in ("internal words", "secret", "RuntimeError", "Traceback", "u:p@"):
            assert word not in each.text
    assert caplog.text.count("internal words") >= len(answers) + len(pages)


def test_a_catalogue_that_fails_is_told_without_its_words(
    panel: Flask, ann: FlaskClient, caplog: pytest.LogCaptureFixture
):
    with catalogue_without(panel, "database_backups"):
        problem, page = ann.get("/api/admin/backup"), ann.get("/admin/backup")
    assert is_problem(problem, 503)
    assert is_error_page(page, 503)
    for each in (problem, page):
        assert each.headers["Retry-After"] == "5"
        assert "database_backups" not in each.text
    assert "no such table: database_backups" in caplog.text


@pytest.mark.parametrize("path", ["/admin/backup", "/admin/login", "/admin/x"])
def test_a_catalogue_that_knows_no_sessions_is_told_as_a_page(
    panel: Flask, ann: FlaskClient, path: str
):
    """Who is asking cannot be found out either, and the page must not ask again."""
    # Flask-Login's own context processor would, while the error page is rendered.
    with catalogue_without(panel, "admin_sessions"):
        answer = ann.get(path)
    assert answer.status_code in (404, 503)
    assert is_error_page(answer, answer.status_code)


class catalogue_without:  # noqa: N801 - reads as words: with catalogue_without(…)
    """A catalogue that lacks one table for a while."""

    def __init__(self, app: Flask, table: str) -> None:
        self.app, self.table = app, table

    def __enter__(self) -> None:
        self._run(f"ALTER TABLE {self.table} RENAME TO gone")

    def __exit__(self, *_: object) -> None:
        self._run(f"ALTER TABLE gone RENAME TO {self.table}")

    def _run(self, statement: str) -> None:
        with self.app.app_context(), writing() as session:
            session.execute(text(statement))


def test_nul_characters_are_no_bug_on_a_postgresql_catalogue(
    make_app: Callable[..., Flask], new_database: Callable[..., Database]
):
    # PostgreSQL's texts hold no NUL, and psycopg2 tells so by a ValueError.
    app = make_app(catalogue_url=as_catalogue(new_database().url))
    app.testing = False
    client = signed_in(app)
    credentials = {"username": "a\0b", "password": "a\0b"}
    answers = {
        "name": client.get("/api/admin/backup/%00.dump/details").status_code,
        "search": client.get("/api/admin/backup?q=%00").status_code,
        "cursor": client.get("/api/admin/backup?before=2026-01-01~%00").status_code,
        "page": client.get("/admin/backup?q=%00").status_code,
        "sign-in": app.test_client().post("/api/admin/session", json=credentials).status_code,
    }
    assert {what: status for what, status in answers.items() if status >= 500} == {}


def test_pages_too_large_and_without_a_token_are_error_pages(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    before = state_of(panel)
    url = f"/admin/backup/{filename}/notes"
    assert is_error_page(ann.post(url, data={"notes": "x" * 70_000}), 413)
    assert is_error_page(ann.post(url, data={"notes": "x"}), 400)
    assert is_error_page(ann.post(url, headers={"Origin": "http://evil.example"}), 403)
    assert state_of(panel) == before


PLACES = [
    ("/admin/login", 200),
    ("/admin/backup", 200),
    ("/admin/nothing", 404),
    ("/", 302),
    ("/api/admin/backup", 200),
    ("/api/nothing", 404),
    ("/static/css/panel.css", 200),
]


@pytest.mark.parametrize(("path", "status"), PLACES)
def test_every_answer_carries_the_security_headers(ann: FlaskClient, path: str, status: int):
    answer = fetched(ann, path)
    assert answer.status_code == status
    policy = dict(
        part.strip().partition(" ")[::2]
        for part in answer.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["form-action"] == "'self'"
    assert policy["base-uri"] == policy["object-src"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Strict-Transport-Security" not in answer.headers
    assert ("no-store" in answer.headers["Cache-Control"]) is not path.startswith("/static/")


def test_https_is_made_to_stay(panel: Flask):
    answer = panel.test_client().get("/admin/login", base_url="https://localhost")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


OTHER_SITES = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://evil.example/localhost"},
    {"Origin": "http://evil.example:80@localhost.evil.example"},
    {"Origin": "http://localhost:8080"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "localhost"},
    {"Origin": "file://"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": ""},
    # No address at all: urlsplit raises ValueError.
    {"Origin": "http://["},
    # Our own name under another scheme.
    {"Origin": "https://localhost"},
    {"Origin": "file://localhost"},
]
OUR_OWN = [
    {},
    {"Origin": "http://localhost"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
]


@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
def test_other_sites_change_nothing(panel: Flask, ann: FlaskClient, headers: dict[str, str]):
    filename = planted(panel)
    before = state_of(panel)
    for method, path in [
        ("POST", "/api/admin/backup"),
        ("PATCH", f"/api/admin/backup/{filename}"),
        ("DELETE", f"/api/admin/backup/{filename}"),
        ("POST", "/api/admin/session"),
        ("DELETE", "/api/admin/session"),
        ("PUT", "/api/nothing"),
    ]:
        answer = ann.open(path, method=method, headers=headers, json={"notes": "forged"})
        assert is_problem(answer, 403)
    for path in ("/admin/backup", f"/admin/backup/{filename}/delete", "/admin/logout"):
        assert is_error_page(ann.post(path, headers=headers), 403)
    assert state_of(panel) == before
    assert ann.get("/api/admin/backup").status_code == 200


@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
def test_links_from_other_sites_may_be_followed(ann: FlaskClient, headers: dict[str, str]):
    assert ann.get("/admin/backup", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", OUR_OWN, ids=str)
def test_our_own_pages_and_curl_are_obeyed(panel: Flask, ann: FlaskClient, headers: dict[str, str]):
    url = f"/api/admin/backup/{planted(panel)}"
    changed = ann.patch(url, headers=headers, json={"notes": "mine"})
    assert changed.status_code == 200
    assert changed.get_json()["backup"]["notes"] == "mine"
    assert ann.delete(url, headers=headers).status_code == 200


def test_the_port_counts_in_an_origin(panel: Flask, ann: FlaskClient):
    url = f"/api/admin/backup/{planted(panel)}"
    here = {"Host": "localhost:3000"}
    body = {"notes": "x"}
    client = panel.test_client()
    for ours, status in [("http://localhost:3000", 401), ("http://localhost:3001", 403)]:
        answer = client.patch(url, headers=here | {"Origin": ours}, json=body)
        assert answer.status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "text/html"])
def test_json_that_a_form_of_another_site_could_send_is_refused(
    panel: Flask, ann: FlaskClient, kind: str
):
    """A browser sends these types without asking first, with the admin's cookie."""
    url = f"/api/admin/backup/{planted(panel)}"
    before = state_of(panel)
    body = b'{"notes": "forged"}'
    assert is_problem(ann.post("/api/admin/backup", data=body, content_type=kind), 415)
    assert is_problem(ann.patch(url, data=body, content_type=kind), 415)
    assert is_problem(ann.post("/api/admin/session", data=body, content_type=kind), 415)
    assert state_of(panel) == before


def test_log_lines_of_errors_cannot_be_forged(panel: Flask, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    forged = "x\n2026-11-23 level=INFO logger=app signed in username=admin"
    answer = panel.test_client().post(
        "/api/admin/session", json={"username": forged[:64], "password": "x"}
    )
    assert answer.status_code == 401
    failed = [r.getMessage() for r in caplog.records if "sign-in failed" in r.getMessage()]
    assert len(failed) == 1
    assert "\n" not in failed[0]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("backups.example.org", 200),
        ("BACKUPS.example.org:8443", 200),
        ("[::1]:3000", 200),
        ("evil.example", 403),
        ("backups.example.org.evil.example", 403),
        ("127.0.0.1", 403),
        ("a b", 403),
    ],
)
def test_the_panel_answers_to_its_own_names_alone(
    tmp_path: Path, sqlite_template: Path, host: str, status: int
):
    with panel_in(tmp_path, sqlite_template, hosts=("backups.example.org", "::1")) as app:
        visitor = app.test_client()
        assert visitor.get("/admin/login", headers={"Host": host}).status_code == status
        if status == 403:
            assert is_problem(visitor.get("/api/admin/backup", headers={"Host": host}), 403)
            assert visitor.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("url", ["/admin/logout", "/admin/logout/everywhere", "/api/admin/session"])
def test_what_the_browser_keeps_goes_at_sign_out(panel: Flask, url: str):
    client = signed_in(panel)
    page = client.get("/admin/backup").text
    token = page.partition('name="csrf_token" value="')[2].partition('"')[0]
    method = "DELETE" if "api" in url else "POST"
    answer = client.open(url, method=method, data={"csrf_token": token} if method == "POST" else {})
    assert answer.status_code in (200, 302)
    assert answer.headers["Clear-Site-Data"] == '"storage"'
    assert "Clear-Site-Data" not in client.get("/admin/login").headers


@pytest.mark.parametrize(
    "host", ["a b", "x:abc", "x:99999", "x:0", "[", "[::1", "a@b:1", "é", ":", ""]
)
def test_a_host_that_is_none_is_no_defect(panel: Flask, host: str):
    visitor = panel.test_client()
    for path in ("/admin/login", "/api/admin/backup", "/healthz", "/nothing"):
        assert visitor.get(path, headers={"Host": host}).status_code < 500
