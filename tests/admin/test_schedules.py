"""Schedules as pages: list, check, make, run, pause, change, delete; and what became of them."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, select

from app.extensions import db, writing
from app.models import DatabaseBackup, Firing, Kind, Outcome, Restore, Schedule
from tests.admin.test_backups import HOSTILE, LIST, Page, followed, seen, sent
from tests.api.test_downloads import planted
from tests.api.test_restores import planted_restore
from tests.api.test_schedules import planted_schedules
from tests.conftest import PASSWORD
from tests.services.health.test_figures import counting

SCHEDULES = "/admin/schedules"
API = "/api/admin/schedules"
NEW = f"{SCHEDULES}/new"
FORM = {"name": HOSTILE[:100], "task": "backup", "cron": "0 3 * * *", "timezone": "Asia/Kathmandu"}


@pytest.fixture(autouse=True)
def none_left(panel: Flask) -> Iterator[None]:
    yield
    with panel.app_context(), writing() as session:
        session.execute(delete(Schedule))


def kept(ann: FlaskClient) -> list[dict]:
    return ann.get(API).get_json()["schedules"]


def test_one_is_checked_and_made(ann: FlaskClient):
    page = seen(ann, SCHEDULES)
    assert "None yet." in page.text
    assert "No backups are scheduled" in page.text
    assert page.all("a", href=NEW)
    assert "Nothing is scheduled" in seen(ann, LIST).text
    assert seen(ann, LIST).link("Schedules") == SCHEDULES

    answer = sent(ann, f"{SCHEDULES}/check", NEW, **FORM, notes="{due}")
    assert answer.status_code == 200, answer.text
    page = Page(answer)
    assert "At 03:00 every day" in page.text
    assert page.text.count("03:00 +0545") == 5
    (form,) = [each for each in page.forms if each["action"] == SCHEDULES]
    assert (form["field name"], form["field cron"]) == (FORM["name"], "0 3 * * *")
    assert kept(ann) == []

    page = followed(ann, sent(ann, SCHEDULES, NEW, **FORM))
    assert FORM["name"] in page.text
    assert not page.all("script", src="")
    assert not page.all("img")
    assert "It has not been due yet." in page.text
    page = seen(ann, SCHEDULES)
    assert FORM["name"] in page.text
    assert not page.all("img")
    assert "At 03:00 every day" in page.text
    assert "No backups are scheduled" not in page.text
    assert "Next backup: " in seen(ann, LIST).text


def test_one_is_run_paused_changed_and_deleted(ann: FlaskClient):
    link = sent(ann, SCHEDULES, NEW, **FORM).location
    assert sent(ann, f"{link}/run", SCHEDULES).location == link
    page = seen(ann, link)
    assert page.all("tr", **{"data-pending": ""})
    assert "Waiting" in page.text
    assert "requested by admin" in page.text
    assert "requested by admin" in seen(ann, SCHEDULES).text
    page = followed(ann, sent(ann, f"{link}/pause", SCHEDULES))
    assert "Paused" in page.text
    assert "No backups are scheduled" in page.text
    assert "Nothing is scheduled" in seen(ann, LIST).text
    assert "(paused)" in seen(ann, link).text
    assert "Paused" not in followed(ann, sent(ann, f"{link}/resume", SCHEDULES)).text

    drill = {"name": "weekly", "task": "drill", "cron": "5 4 * * 1", "timezone": "UTC"}
    page = Page(sent(ann, f"{link}/check", link, **drill))
    assert "At 04:05 on Monday" in page.text
    assert kept(ann)[0]["cron"] == "0 3 * * *"
    page = followed(ann, sent(ann, link, link, **drill, notes="n"))
    assert "Drill of the newest good backup" in page.text
    assert page.all("option", value="drill", selected="")
    assert drill.items() <= kept(ann)[0].items()

    assert sent(ann, f"{link}/delete", link).location == SCHEDULES
    assert kept(ann) == []
    assert ann.get(link).status_code == 404
    for verb in ("", "/run", "/pause", "/resume", "/delete", "/check"):
        assert sent(ann, f"{link}{verb}", **FORM).status_code == 404


def test_the_url_of_a_monitor_is_taken_and_not_shown(ann: FlaskClient):
    url = "https://hc-ping.com/canary-uuid"
    checked = sent(ann, f"{SCHEDULES}/check", NEW, **FORM, heartbeat_url=url)
    (field,) = Page(checked).all("input", name="heartbeat_url")
    assert (field["type"], field["value"]) == ("password", url)  # to be saved after the look
    link = sent(ann, SCHEDULES, NEW, **FORM, heartbeat_url=url).location
    assert "canary" not in ann.get(link).text + ann.get(SCHEDULES).text
    assert kept(ann)[0]["hasHeartbeat"]
    sent(ann, link, link, **FORM, heartbeat_url="")
    assert kept(ann)[0]["hasHeartbeat"]
    assert sent(ann, link, link, **FORM, heartbeat_url="ftp://x").status_code == 422
    sent(ann, link, link, **FORM, heartbeat_url="", no_heartbeat="y")
    assert not kept(ann)[0]["hasHeartbeat"]


def test_what_cannot_be_meant_comes_back_and_is_not_kept(ann: FlaskClient):
    sent(ann, SCHEDULES, NEW, **FORM | {"name": "there"})
    link = f"{SCHEDULES}/{kept(ann)[0]['id']}"
    for change, status, told in (
        ({"name": " "}, 422, "The name must have"),
        ({"name": "x" * 101}, 422, "The name must have"),
        ({"name": "other\nline"}, 422, "The name must have"),
        ({"task": "<i>vacuum</i>"}, 422, "Not a task of a schedule"),
        ({"cron": "<i>"}, 422, "A cron expression has five fields"),
        ({"cron": "0 25 * * *"}, 422, "Not a valid cron expression"),
        ({"timezone": "<i>/Mars"}, 422, "There is no time zone"),
        ({"notes": "x" * 20_000}, 422, "Notes must not be longer"),
        ({"name": "there"}, 409, "There is a schedule"),
    ):
        answer = sent(ann, SCHEDULES, NEW, **FORM | change)
        assert (answer.status_code, told in answer.text) == (status, True), answer.text
        assert "<i>" not in answer.text
        if status == 422:
            answer = sent(ann, link, link, **FORM | change)
            assert (answer.status_code, told in answer.text) == (422, True), answer.text
    for change in ({"cron": "x"}, {"timezone": "Mars"}, {"cron": ""}):
        assert sent(ann, f"{SCHEDULES}/check", NEW, **FORM | change).status_code == 422
        assert sent(ann, f"{link}/check", NEW, **FORM | change).status_code == 422
    assert [each["name"] for each in kept(ann)] == ["there"]
    assert ann.post(SCHEDULES, data=FORM).status_code == 400  # without a token


def test_due_times_tell_what_became_of_them(panel: Flask, ann: FlaskClient):
    (schedule_id,) = planted_schedules(panel, 1, firings=3)
    filename = planted(panel)
    restore_id = planted_restore(panel, filename, kind=Kind.DRILL)
    with panel.app_context(), writing() as session:
        first, second, third = session.scalars(select(Firing).order_by(Firing.due_at.desc()))
        backup = session.scalars(select(DatabaseBackup).filter_by(filename=filename)).one()
        first.job_id = backup.id
        first.missed, first.missed_since = 7, third.due_at
        second.job_id, second.told = restore_id, f"attempt 2 of 5: {HOSTILE}"
        second.outcome = Outcome.WAITING
        third.job_id = "gone"
        assert db.session.get(Restore, restore_id)
    page = seen(ann, f"{SCHEDULES}/{schedule_id}")
    assert page.link("Backup") == f"{LIST}/{filename}"
    assert page.link("Drill") == f"/admin/restores/{restore_id}"
    assert len(page.all("tr")) == 4
    assert "Missed runs before it: 7, since" in page.text
    assert HOSTILE in page.text
    assert not page.all("tr", **{"data-pending": ""})  # it only waits for its next attempt
    assert "Missed runs before it: 7" in seen(ann, SCHEDULES).text


def test_many_take_as_many_queries_as_few(panel: Flask, ann: FlaskClient):
    def asked(url: str) -> int:
        with panel.app_context(), counting() as sent:
            seen(ann, url)
        return len(sent)

    (one,) = planted_schedules(panel, 1, firings=1)
    pages = (SCHEDULES, f"{SCHEDULES}/{one}", LIST)
    few = [asked(url) for url in pages]
    planted_schedules(panel, 49, prefix="t")
    with panel.app_context(), writing() as session:
        schedule = session.get_one(Schedule, one)
        for each in session.scalars(select(Firing).where(Firing.schedule_id != one)).all():
            row = {"due_at": each.due_at, "outcome": Outcome.FAILED, "job_id": each.id}
            if each.due_at not in [known.due_at for known in session.new]:
                session.add(Firing(schedule=schedule, **row))
    assert [asked(url) for url in pages] == few
    assert len(seen(ann, SCHEDULES).all("tr")) == 51


def test_more_of_them_come_on_another_page(panel: Flask, ann: FlaskClient):
    planted_schedules(panel, 53)
    page = seen(ann, SCHEDULES)
    assert len(page.all("tr")) == 51
    page = seen(ann, page.link("More"))
    assert len(page.all("tr")) == 4
    assert page.link("More") is None
    assert len(seen(ann, page.link("First")).all("tr")) == 51
    assert "No more schedules." in seen(ann, f"{SCHEDULES}?after=zz").text
    assert ann.get(f"{SCHEDULES}?after=%00%F0%9F%98%80").status_code == 200


def test_one_that_restores_says_into_what(ann: FlaskClient, shop_template: str):
    form = FORM | {"task": "restore", "target": HOSTILE[:40], "sql": "SELECT '<b>';\nSELECT 2"}
    page = followed(ann, sent(ann, SCHEDULES, NEW, **form, keep_last="2"))
    assert f"Into {HOSTILE[:40]} on " in page.text
    assert page.forms[-2]["field keep_last"] == "2"
    assert "SELECT '<b>';\nSELECT 2" in page.text
    link = f"{SCHEDULES}/{kept(ann)[0]['id']}"
    answer = sent(ann, link, link, **form, keep_last="many")
    assert answer.status_code == 422
    assert "must be a whole number" in Page(answer).text


def test_an_existing_database_needs_its_name_and_the_password(
    admin: FlaskClient, shop_template: str
):
    form = FORM | {"task": "restore", "target": shop_template}
    for more in ({}, {"confirm": shop_template}, {"confirm": shop_template, "password": "x"}):
        answer = sent(admin, SCHEDULES, NEW, **form, **more)
        assert answer.status_code == 422, answer.text
    assert "password" in Page(answer).text
    answer = sent(admin, SCHEDULES, NEW, **form, confirm=shop_template, password=PASSWORD)
    assert f"Into {shop_template} on " in followed(admin, answer).text
