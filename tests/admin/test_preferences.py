"""The time zone of an admin: what they set, and how the pages follow it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.extensions import writing
from app.models import Admin, Schedule, Task
from app.services.databases.lookup import default_database
from tests.admin.test_backups import LIST, followed, seen, sent
from tests.api.test_downloads import planted
from tests.conftest import panel_in, signed_in

PAGE = "/admin/account"
LATE = datetime(2026, 7, 14, 23, 30, 15, tzinfo=UTC)


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


@pytest.fixture
def ann(panel: Flask) -> FlaskClient:
    return signed_in(panel)


def live_in(client: FlaskClient, zone: str) -> None:
    answer = sent(client, PAGE, PAGE, time_zone=zone)
    assert answer.status_code == 302, answer.text


def is_listed(client: FlaskClient, name: str, query: str) -> bool:
    return f"Choose {name}" in client.get(f"{LIST}?{query}").text


def test_times_are_those_of_utc_until_a_zone_is_chosen(panel: Flask, ann: FlaskClient):
    name = planted(panel, created_at=LATE)
    page = seen(ann, LIST)
    assert page.link("Preferences") == PAGE
    assert "2026-07-14 23:30:15" in page.text
    assert "Tuesday 14 July 2026" in page.text
    assert "2026-07-14 23:30:15 UTC" in seen(ann, f"{LIST}/{name}").text


def test_every_page_follows_the_zone_and_has_the_exact_time_on_hover(
    panel: Flask, ann: FlaskClient
):
    name = planted(panel, created_at=LATE)
    fields = {each["name"]: each for each in seen(ann, PAGE).all("input") if "name" in each}
    assert fields["time_zone"]["value"] == "UTC"
    answer = sent(ann, PAGE, PAGE, time_zone=" Europe/Berlin ")
    assert "have been saved" in followed(ann, answer).text
    page = seen(ann, LIST)
    assert "Date (Europe/Berlin)" in page.text
    assert "Wednesday 15 July 2026" in page.text
    assert "2026-07-15 01:30:15" in page.text
    assert page.all("time", title="2026-07-14T23:30:15.000Z")
    assert "2026-07-15 01:30:15 CEST" in seen(ann, f"{LIST}/{name}").text
    assert "2026-07-15 01:30:15 CEST" in seen(ann, f"{LIST}/{name}/certificate").text


def test_dates_of_a_search_are_days_of_the_zone(panel: Flask, ann: FlaskClient):
    name = planted(panel, created_at=LATE)
    live_in(ann, "Europe/Berlin")
    assert is_listed(ann, name, "from=2026-07-15&to=2026-07-15")
    assert not is_listed(ann, name, "to=2026-07-14")
    live_in(ann, "America/Los_Angeles")
    assert is_listed(ann, name, "from=2026-07-14&to=2026-07-14")
    assert not is_listed(ann, name, "from=2026-07-15")
    api = ann.get("/api/admin/backup?from=2026-07-15").json
    assert api["backups"] == []


def test_the_audit_and_the_overview_follow_the_zone(panel: Flask, ann: FlaskClient):
    live_in(ann, "Pacific/Kiritimati")
    with panel.app_context(), writing() as session:
        session.add(
            Schedule(
                database_id=default_database().id, name="nightly", task=Task.BACKUP,
                cron="0 3 * * *", timezone="UTC", created_by="ann", next_due_at=LATE,
            )
        )  # fmt: skip
    assert "Wed 2026-07-15 13:30 +14" in seen(ann, "/admin/").text
    entry = ann.get("/api/admin/audit?action=admin.update").json["entries"][0]
    assert entry["at"].endswith("Z")
    shown = seen(ann, "/admin/audit")
    assert shown.all("time", datetime=entry["at"])
    local = datetime.fromisoformat(entry["at"]).timestamp() + 14 * 3600
    assert f"{datetime.fromtimestamp(local, UTC):%Y-%m-%d %H:%M:%S}" in shown.text


def test_a_schedule_in_another_zone_names_both_times(panel: Flask, ann: FlaskClient):
    form = {"name": "weekly", "task": "drill", "cron": "30 3 * * *", "timezone": "Asia/Tokyo"}
    live_in(ann, "Europe/Berlin")
    page = followed(ann, sent(ann, "/admin/schedules", "/admin/schedules/new", **form))
    assert "JST" in page.text
    assert " CE" in page.text
    live_in(ann, "Asia/Tokyo")
    page = seen(ann, "/admin/schedules")
    assert "JST" not in page.text
    assert "03:30:00" in page.text


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "a\0b", "x" * 5000, "Europe"]
)
def test_a_zone_that_does_not_exist_is_refused(panel: Flask, ann: FlaskClient, zone: str):
    answer = sent(ann, PAGE, PAGE, time_zone=zone)
    assert answer.status_code == 422
    assert "There is no time zone" in answer.text
    assert ann.get("/api/admin/account").json["account"]["timeZone"] == "UTC"


def test_a_zone_that_the_machine_has_lost_breaks_no_page(panel: Flask, ann: FlaskClient):
    with panel.app_context(), writing() as session:
        session.execute(Admin.__table__.update().values(time_zone="Gone/Away"))
    assert "Date (UTC)" in seen(ann, "/admin/audit").text
