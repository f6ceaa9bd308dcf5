"""Settings as one JSON document."""

from flask.testing import FlaskClient

DOCUMENT = {"assertions": [{"name": "orders", "statement": "SELECT true"}]}


def test_settings_are_read_and_brought(admin: FlaskClient):
    path = "/api/admin/settings"
    asked = admin.patch(path, json={"settings": DOCUMENT, "dryRun": True})
    assert asked.json == {
        "success": True,
        "changes": ['assertion "orders" added'],
        "dryRun": True,
    }
    before = admin.get(path).json["settings"]
    (default,) = before.pop("databases")
    assert (default["state"], "url" in default) == ("active", False)
    assert before == {
        "assertions": [],
        "notifiers": [],
        "retention": [],
        "schedules": [],
        "stores": [],
        "store_retention": [],
    }
    assert admin.patch(path, json={"settings": DOCUMENT}).status_code == 200
    assert admin.get(path).json == {
        "settings": {"databases": [default]}
        | DOCUMENT
        | {"notifiers": [], "retention": [], "schedules": [], "stores": [], "store_retention": []}
    }
    gone = admin.patch(path, json={"settings": {"assertions": []}, "exact": True})
    assert gone.json["changes"] == ['assertion "orders" removed']


def test_what_cannot_be_meant_is_told(admin: FlaskClient):
    for body, status in (
        ({"settings": {"secrets": []}}, 422),
        ({"settings": []}, 422),
        ({"settings": {"assertions": [{"name": "a", "statement": None}]}}, 422),
        ({}, 422),
    ):
        answer = admin.patch("/api/admin/settings", json=body)
        assert (answer.status_code, answer.json["success"]) == (status, False)
