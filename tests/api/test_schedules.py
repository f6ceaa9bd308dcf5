"""Schedules as JSON."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete

from app.extensions import writing
from app.models import Firing, Outcome, Schedule, Task
from app.models.types import now
from app.services.schedules import service as schedules
from tests.api.test_downloads import is_problem
from tests.conftest import PASSWORD
from tests.services.health.test_figures import counting

SCHEDULES = "/api/admin/schedules"
ROW = {
    *("id", "name", "task", "cron", "timezone", "words", "notes", "enabled", "nextDueAt"),
    *("hasHeartbeat", "target", "sql", "keepLast"),
    *("server", "database", "createdAt", "createdBy", "lastFiring"),
}
FIRING = {
    *("dueAt", "outcome", "attempts", "missed", "missedSince", "told", "finishedAt", "jobId"),
}
NIGHTLY = {"name": "nightly", "task": "backup", "cron": "0 3 * * *", "timezone": "Europe/Berlin"}


@pytest.fixture(autouse=True)
def none_left(panel: Flask) -> Iterator[None]:
    with panel.app_context(), writing() as session:
        session.execute(delete(Schedule))
    yield
    with panel.app_context(), writing() as session:
        session.execute(delete(Schedule))


def planted_schedules(app: Flask, number: int, firings: int = 3, prefix: str = "s") -> list[str]:
    """Schedules with due times behind them, by id."""
    with app.app_context(), writing() as session:
        made = [
            schedules.add_schedule(
                schedules.NewSchedule(f"{prefix} {each}", Task.BACKUP, f"{each % 60} * * * *"),
                created_by="ann",
            )
            for each in range(number)
        ]
        for schedule in made:
            for hours in range(1, firings + 1):
                row = {"due_at": now() - timedelta(hours=hours), "attempts": hours, "missed": 0}
                outcome = Outcome.COMPLETED if hours % 2 else Outcome.FAILED
                session.add(
                    Firing(schedule_id=schedule.id, outcome=outcome, told=f"told {hours}", **row)
                )
        return [each.id for each in made]


def test_one_is_made_listed_changed_run_and_deleted(ann: FlaskClient):
    answer = ann.post(SCHEDULES, json=NIGHTLY)
    assert answer.status_code == 201, answer.text
    made = answer.get_json()["schedule"]
    assert answer.headers["Location"].endswith(f"{SCHEDULES}/{made['id']}")
    assert set(made) == ROW | {"nextTimes"}
    assert NIGHTLY.items() <= made.items()
    assert (made["words"], made["notes"], made["enabled"], made["lastFiring"]) == (
        "At 03:00 every day", "", True, None,
    )  # fmt: skip
    times = [datetime.fromisoformat(each) for each in made["nextTimes"]]
    assert len(times) == 5
    assert made["nextTimes"][0] == made["nextDueAt"]
    assert {each.astimezone(ZoneInfo("Europe/Berlin")).hour for each in times} == {3}
    row = {key: made[key] for key in ROW}
    assert ann.get(SCHEDULES).get_json() == {"schedules": [row]}
    url = f"{SCHEDULES}/{made['id']}"
    assert ann.get(url).get_json() == made
    assert is_problem(ann.post(SCHEDULES, json=NIGHTLY), 409)

    changes = {"name": "drill", "task": "drill", "notes": "{due}", "enabled": False}
    answer = ann.patch(url, json=changes)
    changed = made | changes | {"nextDueAt": None, "nextTimes": []}
    assert answer.get_json() == {"success": True, "schedule": changed}
    assert ann.patch(url, json={"enabled": True}).get_json()["schedule"]["nextDueAt"]

    answer = ann.post(f"{url}/run")
    assert answer.status_code == 202, answer.text
    firing = answer.get_json()["firing"]
    assert set(firing) == FIRING
    assert (firing["outcome"], firing["told"]) == ("waiting", "requested by admin")
    assert ann.get(f"{url}/firings").get_json() == {"firings": [firing]}
    assert ann.get(SCHEDULES).get_json()["schedules"][0]["lastFiring"] == firing

    assert ann.delete(url).get_json() == {"success": True, "message": "Schedule deleted"}
    for call in (
        ann.delete(url), ann.get(url), ann.patch(url, json={"name": "x"}), ann.post(f"{url}/run"),
        ann.get(f"{url}/firings"), ann.get(f"{SCHEDULES}/a%00b"),
    ):  # fmt: skip
        assert is_problem(call, 404)


def test_the_url_of_a_monitor_is_taken_and_not_shown(ann: FlaskClient):
    made = ann.post(SCHEDULES, json=NIGHTLY | {"heartbeatUrl": "https://hc-ping.com/canary-uuid"})
    assert "canary" not in made.text
    assert made.get_json()["schedule"]["hasHeartbeat"]
    url = made.headers["Location"]
    assert ann.patch(url, json={"notes": "n"}).get_json()["schedule"]["hasHeartbeat"]
    wrong = ann.patch(url, json={"heartbeatUrl": "file:///canary-uuid"})
    assert is_problem(wrong, 422)
    assert "canary" not in wrong.text
    assert is_problem(ann.patch(url, json={"heartbeatUrl": None}), 422)
    answer = ann.patch(url, json={"heartbeatUrl": ""})
    assert not answer.get_json()["schedule"]["hasHeartbeat"]


def test_due_times_come_newest_first(panel: Flask, ann: FlaskClient):
    (first, _) = planted_schedules(panel, 2, firings=4)
    found = ann.get(f"{SCHEDULES}/{first}/firings?limit=3").get_json()["firings"]
    assert [each["told"] for each in found] == ["told 1", "told 2", "told 3"]
    for row in ann.get(SCHEDULES).get_json()["schedules"]:
        assert (row["lastFiring"]["told"], row["lastFiring"]["outcome"]) == ("told 1", "completed")
    for query in ("limit=0", "limit=201", "limit=x", "before=x"):
        assert is_problem(ann.get(f"{SCHEDULES}/{first}/firings?{query}"), 422)


def test_a_preview_keeps_nothing(ann: FlaskClient):
    found = ann.get(f"{SCHEDULES}/preview?cron=0+3+*+*+1-5&timezone=Asia/Kathmandu").get_json()
    assert found["words"] == "At 03:00 on Monday through Friday"
    times = [datetime.fromisoformat(each) for each in found["nextTimes"]]
    assert [f"{each.astimezone(UTC):%H:%M}" for each in times] == ["21:15"] * 5
    assert ann.get(f"{SCHEDULES}/preview?cron=0+3+*+*+*").status_code == 200
    for query in ("", "cron=x", "cron=0+3+*+*+*&timezone=Mars", "cron=0+3+*+*+*&task=drill"):
        assert is_problem(ann.get(f"{SCHEDULES}/preview?{query}"), 422), query
    assert ann.get(SCHEDULES).get_json() == {"schedules": []}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "the name must have"),
        ({"name": "a\nb"}, "the name must have"),
        ({"name": "x" * 101}, "the name must have"),
        ({"name": ["a"]}, "name"),
        ({"task": "vacuum"}, "task"),
        ({"task": ["backup"]}, "task"),
        ({"task": None}, "task"),
        ({"cron": "0 3 * *"}, "five fields"),
        ({"cron": "0 25 * * *"}, "not a valid cron expression"),
        ({"cron": "0 0 31 2 *"}, "not a valid cron expression"),
        ({"cron": "* " * 5000}, "five fields"),
        ({"cron": 5}, "cron"),
        ({"timezone": "Europe/Atlantis"}, "there is no time zone"),
        ({"timezone": "../../etc/passwd"}, "there is no time zone"),
        ({"timezone": "a\0b"}, "there is no time zone"),
        ({"timezone": 1}, "timezone"),
        ({"notes": "x" * 2001}, "notes must not be longer"),
        ({"notes": "a\x1b[2J"}, "control characters"),
        ({"notes": None}, "notes"),
        ({"enabled": "yes"}, "enabled"),
        ({"enabled": None}, "enabled"),
        ({"server": "other"}, "server"),
        ({"nextDueAt": "2030-01-01T00:00:00Z"}, "nextDueAt"),
    ],
)
def test_what_cannot_be_meant_is_not_kept(ann: FlaskClient, change: dict, told: str):
    answer = ann.post(SCHEDULES, json=NIGHTLY | change)
    assert is_problem(answer, 422)
    assert told in answer.text
    assert ann.get(SCHEDULES).get_json() == {"schedules": []}
    made = ann.post(SCHEDULES, json=NIGHTLY).get_json()["schedule"]
    assert is_problem(ann.patch(f"{SCHEDULES}/{made['id']}", json=change), 422)
    assert ann.get(f"{SCHEDULES}/{made['id']}").get_json() == made


def test_what_is_missing_is_told(ann: FlaskClient):
    for key in ("name", "task", "cron"):
        body = {each: value for each, value in NIGHTLY.items() if each != key}
        assert key in ann.post(SCHEDULES, json=body).get_json()["detail"]


def test_many_take_as_many_queries_as_few(panel: Flask, ann: FlaskClient):
    def asked(number: int) -> list[str]:
        with panel.app_context(), counting() as sent:
            assert len(ann.get(SCHEDULES).get_json()["schedules"]) == number
        return sent

    planted_schedules(panel, 1)
    few = asked(1)
    planted_schedules(panel, 49, prefix="t")
    assert len(asked(50)) == len(few)


def test_one_that_restores_names_its_target_and_shows_its_sql(ann: FlaskClient):
    restoring = {"name": "staging", "task": "restore", "cron": "0 4 * * *"}
    wanted = restoring | {"target": "shop_staging", "sql": "UPDATE a SET b = 1;", "keepLast": 2}
    answer = ann.post(SCHEDULES, json=wanted)
    assert answer.status_code == 201, answer.text
    assert wanted.items() <= answer.get_json()["schedule"].items()
    url = answer.headers["Location"]
    changed = ann.patch(url, json={"sql": "", "keepLast": 0}).get_json()["schedule"]
    assert (changed["target"], changed["sql"], changed["keepLast"]) == ("shop_staging", "", 0)
    for wrong in ({"target": ""}, {"sql": "\0"}, {"sql": "x" * 20_001}, {"keepLast": 2**70}):
        assert is_problem(ann.patch(url, json=wrong), 422)
    for wrong in ({}, {"target": "postgres"}, {"target": "\ud800"}, {"target": "shop_staging"}):
        assert is_problem(ann.post(SCHEDULES, json=restoring | {"name": "other"} | wrong), 422)


def test_a_database_that_is_there_needs_its_name_and_the_password(
    admin: FlaskClient, shop_template: str
):
    wanted = {"name": "s", "task": "restore", "cron": "0 4 1 1 *", "target": shop_template}
    typed = wanted | {"confirm": shop_template}
    for body in (wanted, wanted | {"confirm": "x"}, typed, typed | {"password": "wrong"}):
        refused = admin.post(SCHEDULES, json=body)
        assert is_problem(refused, 422), refused.text
    answer = admin.post(SCHEDULES, json=typed | {"password": PASSWORD})
    assert answer.status_code == 201, answer.text
    assert admin.patch(answer.headers["Location"], json={"keepLast": 3}).status_code == 200
