"""GET /api/admin/doctor."""

from flask.testing import FlaskClient

from tests.api.test_downloads import is_problem


def test_the_findings_are_told_as_the_terminal_tells_them(ann: FlaskClient):
    """Nothing listens at the panel's database."""
    answer = ann.get("/api/admin/doctor")
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.get_json()
    assert list(told) == ["healthy", "findings"]
    assert told["healthy"] is False
    assert all(list(each) == ["subject", "state", "told", "hint"] for each in told["findings"])
    assert told["findings"][0]["subject"] == "server"
    assert told["findings"][0]["state"] == "problem"
    assert "no connection" in told["findings"][0]["told"]
    states = {each["subject"]: each["state"] for each in told["findings"]}
    assert states["catalogue"] == "ok"
    assert states["tables"] == "warning"


def test_a_healthy_panel_is_told_so(admin: FlaskClient):
    told = admin.get("/api/admin/doctor").get_json()
    assert told["healthy"] is True
    assert {each["state"] for each in told["findings"]} == {"ok", "warning"}


def test_it_can_only_be_asked(ann: FlaskClient):
    assert is_problem(ann.post("/api/admin/doctor", json={}), 405)
