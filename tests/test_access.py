"""Nobody gets anywhere without signing in, but to the few places written here."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from tests.api.test_downloads import CONTENT, dump_of, planted, state_of
from tests.conftest import panel_in

PUBLIC = {
    ("GET", "/"),  # only redirects
    ("GET", "/admin/login"),
    ("POST", "/admin/login"),
    ("POST", "/api/admin/session"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/static/<path:filename>"),
    ("GET", "/bootstrap/static/<path:filename>"),
}

#: What machines read with a token of their own (test_monitoring).
BY_TOKEN = {(method, "/metrics") for method in ("GET", "HEAD", "OPTIONS")}


@pytest.fixture(scope="module")
def filename(panel: Flask) -> str:
    """A backup with a dump: what a visitor must never see or change."""
    return planted(panel, notes="notes of the backup")


def is_public(method: str, rule: Rule) -> bool:
    """HEAD is as public as GET; OPTIONS tells only of methods."""
    methods = {method, "GET"} if method == "HEAD" else {method}
    if method == "OPTIONS":
        methods = {"GET", "POST"}
    return any((each, rule.rule) in PUBLIC for each in methods)


def guarded(app: Flask) -> list[tuple[str, Rule]]:
    return [
        (method, rule)
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods or ())
        if not is_public(method, rule)
        if (method, rule.rule) not in BY_TOKEN
    ]


def asked_by_a_visitor(app: Flask, method: str, rule: Rule, filename: str) -> TestResponse:
    built = rule.build(dict.fromkeys(rule.arguments, filename))
    assert built is not None
    return app.test_client().open(built[1], method=method, buffered=True)


def refusal_of(answer: TestResponse) -> str:
    """What is wrong with this refusal; empty if nothing is."""
    if answer.request.path.startswith("/api/"):
        if answer.status_code != 401:
            return f"answers {answer.status_code}"
        if answer.content_type != "application/problem+json":
            return f"answers with {answer.content_type}"
        return "sends a visitor elsewhere" if "Location" in answer.headers else ""
    if answer.status_code != 302:
        return f"answers {answer.status_code}"
    target = urlsplit(answer.location)
    if (target.netloc, target.path) != ("", "/admin/login"):
        return f"redirects to {answer.location}"
    wanted = answer.request.full_path.rstrip("?") if answer.request.method == "GET" else None
    is_right = parse_qs(target.query).get("next", [None]) == [wanted]
    return "" if is_right else f"comes back to {target.query}"


def let_through(app: Flask, filename: str) -> dict[str, str]:
    """Every guarded route that does not refuse a visitor as it should."""
    found = {
        f"{method} {rule.rule}": refusal_of(asked_by_a_visitor(app, method, rule, filename))
        for method, rule in guarded(app)
    }
    return {route: wrong for route, wrong in found.items() if wrong}


def test_every_route_with_every_method_refuses_a_visitor(panel: Flask, filename: str):
    before = state_of(panel)
    assert len(guarded(panel)) > 30
    assert let_through(panel, filename) == {}
    assert state_of(panel) == before
    assert dump_of(panel, filename).read_bytes() == CONTENT


def test_no_refusal_says_anything_of_a_backup(panel: Flask, filename: str):
    for method, rule in guarded(panel):
        answer = asked_by_a_visitor(panel, method, rule, filename)
        assert CONTENT[:5] not in answer.data
        assert "notes of the backup" not in answer.text
        assert "ETag" not in answer.headers


def test_every_public_place_exists_and_is_open(panel: Flask):
    """The list names nothing that has gone, and nothing that is guarded after all."""
    routes = {(m, r.rule) for r in panel.url_map.iter_rules() for m in r.methods or ()}
    assert sorted(PUBLIC - routes) == []
    visitor = panel.test_client()
    assert visitor.get("/").location == "/admin/"
    assert visitor.get("/admin/login").status_code == 200
    assert visitor.post("/admin/login").status_code == 400  # it wants the form's token
    assert visitor.post("/api/admin/session", json={}).status_code == 422
    assert visitor.get("/healthz").text == "ok\n"
    assert visitor.get("/readyz").json["ready"] is False  # there is no worker
    for path in ("/static/css/panel.css", "/bootstrap/static/css/bootstrap.min.css"):
        assert visitor.get(path, buffered=True).status_code == 200


@pytest.mark.parametrize(
    "path", ["/static/../config.py", "/static/%2e%2e/config.py", "/static/..%2fconfig.py"]
)
def test_static_files_are_all_that_is_static(panel: Flask, path: str):
    assert panel.test_client().get(path).status_code == 404


def test_an_unguarded_route_would_be_found(tmp_path: Path, sqlite_template: Path):
    with panel_in(tmp_path, sqlite_template) as app:
        app.add_url_rule("/api/admin/leak", "leak", lambda: "everything", methods=["GET"])
        app.add_url_rule("/admin/leak/<name>", "page", lambda name: name, methods=["POST"])
        assert let_through(app, "x") == {
            "GET /api/admin/leak": "answers 200",
            "HEAD /api/admin/leak": "answers 200",
            "OPTIONS /api/admin/leak": "answers 200",
            "POST /admin/leak/<name>": "answers 200",
            "OPTIONS /admin/leak/<name>": "answers 200",
        }


def test_a_visitor_cannot_tell_a_backup_that_exists_from_one_that_does_not(
    panel: Flask, filename: str
):
    visitor = panel.test_client()
    for path in ("/api/admin/backup/{}", "/api/admin/backup/{}/details"):
        there, not_there = (visitor.get(path.format(name)) for name in (filename, "no.dump"))
        assert (there.status_code, there.data) == (not_there.status_code, not_there.data)
