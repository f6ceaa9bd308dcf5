"""Notifiers and alarms as pages: make, test, change, delete; and the band over every page."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete
from werkzeug.test import TestResponse

from app.extensions import db, writing
from app.models import Alarm, Fact, Notifier
from app.models.types import now
from tests.admin.test_backups import LIST, seen, sent, token_on
from tests.listeners import listening

NOTIFIERS = "/admin/notifiers"


@pytest.fixture(autouse=True)
def none_left(panel: Flask) -> Iterator[None]:
    yield
    with panel.app_context(), writing() as session:
        session.execute(delete(Notifier))
        session.execute(delete(Alarm))


def filled(ann: FlaskClient, page: str, fields: dict[str, str]) -> TestResponse:
    """A form that is sent to the page on which it stands."""
    return ann.post(page, data={"csrf_token": token_on(ann, page)} | fields)


def test_one_is_made_tested_changed_and_deleted(panel: Flask, ann: FlaskClient):
    assert "None yet, so alarms reach nobody" in seen(ann, NOTIFIERS).text
    with listening() as right:
        form = {"name": "<b>ops</b>", "url": right.url, "every_alarm": "y", "enabled": "y"}
        answer = filled(ann, NOTIFIERS, form)
        assert answer.status_code == 302
        link = answer.location
        page = seen(ann, link)
        assert "<b>ops</b>" in page.text
        assert not page.all("b")
        assert "json://127.0.0.1 (JSON)" in page.text
        assert "canary" not in ann.get(link).text
        assert sent(ann, f"{link}/test", link).location == link
        assert right.titles == ["Backstop: a test"]
        assert "The test message was accepted" in seen(ann, link).text
        right.answers = 500
        sent(ann, f"{link}/test", link)
        page = seen(ann, link)
        assert "The test was not sent: the message was not accepted" in page.text
        assert "error=500" in page.text
    form = {"name": "ops", "url": "", "title": "$database: $title", "facts": "disk-low"}
    assert filled(ann, link, form).location == NOTIFIERS
    page = seen(ann, NOTIFIERS)
    assert "disk-low" in page.text
    assert "(off)" in page.text
    assert {"Sent", "Failed"} <= {each.strip() for each in page.within("span")}
    assert "canary" not in ann.get(NOTIFIERS).text
    page = seen(ann, link)
    chosen = [each["value"] for each in page.all("input", name="facts") if "checked" in each]
    assert chosen == ["disk-low"]
    assert page.all("input", name="url")[0].get("value", "") == ""
    filled(ann, link, form | {"every_alarm": "y", "facts": "backup-completed"})
    (notifier,) = ann.get("/api/admin/notifiers").get_json()["notifiers"]
    assert sorted(notifier["facts"]) == sorted(
        each.value for each in Fact if each is not Fact.DRILL_PASSED
    )
    assert sent(ann, f"{link}/delete", link).location == NOTIFIERS
    assert "None yet" in seen(ann, NOTIFIERS).text
    assert ann.get(link).status_code == 404


def test_what_cannot_be_meant_comes_back_without_the_url(ann: FlaskClient):
    for fields, status, told in (
        ({"name": "", "url": "json://canary@h"}, 422, "The name must have"),
        ({"name": "a", "url": ""}, 422, "The URL is empty"),
        ({"name": "a", "url": "canary://x"}, 422, "Not a valid URL of a notifier"),
        (
            {"name": "a", "url": "json://canary@h", "title": "$x"},
            422,
            "The title has an unknown placeholder",
        ),
        ({"name": "a", "url": "json://canary@h", "facts": "<i>"}, 422, "Not a valid fact"),
    ):
        answer = filled(ann, NOTIFIERS, fields)
        assert (answer.status_code, told in answer.text) == (status, True), answer.text
        assert "canary" not in answer.text
        assert "<i>" not in answer.text
    assert ann.post(NOTIFIERS, data={"name": "a", "url": "json://h"}).status_code == 400


def opened(panel: Flask, title: str = "No <b>good</b> backup", **values: object) -> None:
    with panel.app_context(), writing() as session:
        row = {"kind": Fact.BACKUP_TOO_OLD, "subject": title, "opened_at": now(), "title": title}
        session.add(Alarm(**row | {"body": "line <one>\nline two"} | values))


def test_an_open_alarm_is_on_every_page_until_it_is_over(panel: Flask, ann: FlaskClient):
    assert not seen(ann, LIST).all("section", **{"aria-label": "Open alarms"})
    assert "No open alarms" in seen(ann, "/admin/alarms").text
    for number in range(7):
        opened(panel, f"No <b>good</b> backup {number}")
    for url in (LIST, "/admin/restores", "/admin/assertions", NOTIFIERS, "/admin/doctor"):
        page = seen(ann, url)
        assert page.all("section", **{"aria-label": "Open alarms"}), url
        assert "No <b>good</b> backup 6" in page.text
        assert "No <b>good</b> backup 0" not in page.text  # the newest are enough
        assert not page.all("b")
    page = seen(ann, "/admin/alarms")
    assert "No <b>good</b> backup 0" in page.text
    assert "line <one>" in page.text
    with panel.app_context(), writing():
        for each in db.session.query(Alarm):
            each.closed_at = now()
    assert not seen(ann, LIST).all("section", **{"aria-label": "Open alarms"})
    assert "No <b>good</b> backup 0" in seen(ann, "/admin/alarms").text
