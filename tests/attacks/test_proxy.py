"""Forwarded headers that somebody makes up, with and without a proxy in front."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.conftest import PASSWORD, panel_in, signed_in

SESSION = "/api/admin/session"
TOKEN = "0123456789abcdef0123"
FORGED = [
    {"X-Forwarded-For": ""},
    {"X-Forwarded-For": "<script>alert(1)</script>"},
    {"X-Forwarded-For": "a" * 5000},
    {"X-Forwarded-For": "::ffff:1.2.3.4"},
    {"X-Forwarded-For": "2001:db8::1%eth0"},
    {"X-Forwarded-For": "1.2.3.4, " * 500 + "1.2.3.4"},
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Host": "a, b"},
    {"X-Forwarded-Host": '"><x'},
    {"X-Forwarded-Proto": "javascript"},
    {"X-Forwarded-Proto": "https, http"},
    {"X-Forwarded-Port": "99999"},
    {"X-Forwarded-Prefix": "/evil"},
    {"Forwarded": "for=1.2.3.4;host=evil.example;proto=https"},
    {"X-Real-IP": "1.2.3.4"},
    {"X-Original-URL": "/admin/audit"},
    {"X-HTTP-Method-Override": "DELETE"},
]


@pytest.fixture(params=[0, 1], ids=["without a proxy", "behind a proxy"])
def panel(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    more = {"trusted_proxies": request.param, "metrics_token": TOKEN}
    with panel_in(tmp_path, sqlite_template, **more) as app:
        yield app


@pytest.mark.parametrize("headers", FORGED, ids=lambda each: str(each)[:50])
def test_no_forged_header_breaks_a_page_or_leads_elsewhere(panel: Flask, headers: dict[str, str]):
    visitor = panel.test_client()
    body = {"username": "who", "password": "guessed guessed"}
    for answer in (
        visitor.post(SESSION, json=body, headers=headers),
        visitor.get("/admin/backup", headers=headers),
        visitor.get("/", headers=headers),
        visitor.get("/admin/login", headers=headers),
    ):
        assert answer.status_code < 500
        assert "<script>alert" not in answer.text
        assert answer.headers.get("Location", "/").startswith("/")
        assert "Domain" not in answer.headers.get("Set-Cookie", "")


def test_without_a_proxy_nobody_has_another_address(panel: Flask):
    ann = signed_in(panel)
    entries = ann.get("/api/admin/audit?action=session.create").json["entries"]
    known = len(entries)
    for number in range(3):
        ann.post(
            SESSION,
            json={"username": "admin", "password": PASSWORD},
            headers={"Forwarded": f"for=9.9.9.{number}", "X-Real-IP": f"9.9.9.{number}"},
        )
    entries = ann.get("/api/admin/audit?action=session.create").json["entries"]
    assert {each["origin"] for each in entries[: len(entries) - known]} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}",
     "Bearer \xff", "Bearer " + "a" * 60_000, TOKEN],
    ids=lambda each: ascii(each)[:20],
)  # fmt: skip
def test_figures_take_their_token_and_nothing_else(panel: Flask, given: str):
    visitor = panel.test_client()
    answer = visitor.get("/metrics", headers={"Authorization": given} if given else {})
    assert answer.status_code == 401
    assert "backstop_" not in answer.text
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert visitor.get("/metrics", headers=right).status_code == 200
