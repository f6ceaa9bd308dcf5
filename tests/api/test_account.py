"""One's own password, changed with JSON."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.api.test_downloads import is_problem
from tests.conftest import PASSWORD, panel_in, signed_in

URL = "/api/admin/password"
NEW = "four random words do"


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


def test_a_password_is_changed_and_this_session_goes_on(panel: Flask):
    ann, other = signed_in(panel), signed_in(panel)
    for body, status in (
        ({}, 422),
        ({"password": PASSWORD}, 422),
        ({"password": "wrong", "newPassword": NEW}, 422),
        ({"password": PASSWORD, "newPassword": "short"}, 422),
        ({"password": PASSWORD, "newPassword": "password1234"}, 422),
    ):
        assert is_problem(ann.put(URL, json=body), status)
    answer = ann.put(URL, json={"password": PASSWORD, "newPassword": NEW})
    assert (answer.status_code, answer.json["success"]) == (200, True)
    assert ann.get("/api/admin/backup").status_code == 200
    assert is_problem(other.get("/api/admin/backup"), 401)
    acts = ann.get("/api/admin/audit?action=admin.password").json["entries"]
    assert [each["outcome"] for each in acts] == ["done", *["refused"] * 5]
    assert NEW not in str(acts)


def test_a_wrong_password_is_counted(panel: Flask):
    ann = signed_in(panel)
    for _ in range(10):
        ann.put(URL, json={"password": "wrong", "newPassword": NEW})
    assert is_problem(ann.put(URL, json={"password": PASSWORD, "newPassword": NEW}), 429)


def test_one_s_time_zone_is_shown_and_changed(panel: Flask):
    ann = signed_in(panel)
    account = ann.get("/api/admin/account").json["account"]
    assert (account["username"], account["timeZone"]) == ("admin", "UTC")
    answer = ann.patch("/api/admin/account", json={"timeZone": "Europe/Berlin"})
    assert answer.json["account"]["timeZone"] == "Europe/Berlin"
    assert ann.patch("/api/admin/account", json={}).json["account"] == answer.json["account"]
    for body in ({"timeZone": "Mars"}, {"timeZone": None}, {"zone": "UTC"}):
        assert is_problem(ann.patch("/api/admin/account", json=body), 422)
    acts = ann.get("/api/admin/audit?action=admin.update").json["entries"]
    assert [each["outcome"] for each in acts] == ["refused"] * 3 + ["done"] * 2
