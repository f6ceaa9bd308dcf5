"""The pages of databases: at a glance, one of them, and the choice of one elsewhere."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.models import Loss
from app.services.databases import lookup, service
from tests.admin.test_backups import Page, seen, token_on
from tests.services.copies.test_places import here
from tests.services.health.test_figures import START, counting, keep, plant

BASE, CANARY = "/admin/databases", "canary-pw"


def add(client: FlaskClient, name: str, url: str, status: int = 302, **more: str) -> str:
    token = token_on(client, f"{BASE}/new")
    form = {"csrf_token": token, "name": name, "url": url, **more}
    answer = client.post(BASE, data=form)
    assert answer.status_code == status, answer.text
    return answer.text


def test_a_database_is_added_changed_paused_and_retired(admin: FlaskClient):
    add(admin, "crm", f"postgresql://u:{CANARY}@db2:5432/crm", max_age="26h")
    page = seen(admin, f"{BASE}/crm")
    assert "crm on db2:5432, active." in page.text
    assert CANARY not in admin.get(f"{BASE}/crm").text
    token = token_on(admin, f"{BASE}/crm")
    form = {"csrf_token": token, "name": "sales", "url": "", "max_age": "soon"}
    assert "The age must be a duration" in admin.post(f"{BASE}/crm", data=form).text
    assert admin.post(f"{BASE}/crm", data=form | {"max_age": "2h"}).status_code == 302
    skipping = form | {"max_age": "2h", "skips_counting": "y"}
    for changed, is_checked in ((skipping, True), (form | {"max_age": "2h"}, False)):
        assert admin.post(f"{BASE}/sales", data=changed).status_code == 302
        (box,) = seen(admin, f"{BASE}/sales").all("input", name="skips_counting")
        assert ("checked" in box) is is_checked
    for jobs, status in (("3", 302), ("", 302), ("none", 422), ("65", 422)):
        answer = admin.post(f"{BASE}/sales", data=form | {"max_age": "2h", "dump_jobs": jobs})
        assert answer.status_code == status
        if status == 302:
            (field,) = seen(admin, f"{BASE}/sales").all("input", name="dump_jobs")
            assert field["value"] == jobs
        else:
            assert "must be a whole number from 1 to 64" in answer.text
    for verb, state in (("pause", "paused"), ("resume", "active"), ("retire", "retired")):
        assert admin.post(f"{BASE}/sales/{verb}", data={"csrf_token": token}).status_code == 302
        assert f"crm on db2:5432, {state}." in seen(admin, f"{BASE}/sales").text
    assert "Retired" in seen(admin, BASE).text


def test_many_databases_are_shown_in_pages(admin: FlaskClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.admin.databases._SHOWN", 2)
    for name in ("crm", "sales", "wiki"):
        add(admin, name, f"postgresql://u:p@db2:5432/{name}")
    first = seen(admin, BASE)
    (more,) = first.all("a", rel="next")
    second = seen(admin, more["href"])
    assert not second.all("a", rel="next")
    names = [name for page in (first, second) for name in names_on(page)]
    assert {"crm", "sales", "wiki"} < set(names)
    assert (len(names), names) == (4, sorted(names))
    assert second.link("First") == BASE


def names_on(page: Page) -> list[str]:
    """The databases whose backups it leads to."""
    links = [link["href"] for link in page.all("a", **{"class": "btn btn-sm btn-outline-primary"})]
    return [link.rpartition("database=")[2] for link in links]


@pytest.mark.parametrize(
    ("name", "url", "why", "status"),
    [
        ("Crm", "postgresql://u@h/d", "is not a valid name of a database", 422),
        ("crm", "postgresql:///d", "names no host", 422),
        ("crm", "jdbc:postgresql://u@h/d", "is not a PostgreSQL URL", 422),
    ],
)
def test_what_cannot_be_meant_is_said(
    admin: FlaskClient, name: str, url: str, why: str, status: int
):
    assert why in add(admin, name, url, status)


def test_pages_about_one_database_follow_the_choice(admin: FlaskClient):
    add(admin, "crm", "postgresql://u@db2:5432/crm")
    for path in ("backup", "schedules", "retention", "assertions"):
        page = seen(admin, f"/admin/{path}?database=crm")
        assert "crm" in page.text
    token = token_on(admin, "/admin/schedules/new?database=crm")
    form = {"csrf_token": token, "name": "nightly", "task": "backup", "cron": "0 3 * * *"}
    made = admin.post("/admin/schedules?database=crm", data=form | {"timezone": "UTC"})
    assert made.status_code == 302
    assert "nightly" in seen(admin, "/admin/schedules?database=crm").text
    assert "nightly" not in seen(admin, "/admin/schedules").text


def test_with_one_database_there_is_nothing_to_choose(admin: FlaskClient):
    assert seen(admin, "/admin/backup").all("select", name="database") == []


def test_the_copies_of_the_newest_good_backup_are_seen(app: Flask, admin: FlaskClient):
    assert "–" in seen(admin, BASE).text
    with app.app_context():
        plant(1), plant(2)
        name = here(2)
        keep("nas", 2, address="file:///mnt/nas", verified_at=START)
        keep("lost", 2, address="s3://bucket/a", loss=Loss.MISSING)
    assert "2 copies in 2 places" in seen(admin, BASE).text
    page = seen(admin, f"{BASE}/shop")
    for text in ("Newest good backup: 2 copies in 2 places", "Here: not read back", "nas : read"):
        assert text in page.text
    assert name in page.text
    assert "lost" not in page.text
    with app.app_context():
        database = lookup.get_database("shop").name
    listed = seen(admin, f"/admin/backup?database={database}").text
    assert "2 places" in listed
    assert "0 places" in listed  # neither the older dump nor a copy of it is there


def test_forty_databases_cost_as_many_statements_as_four(app: Flask, admin: FlaskClient):
    def cost() -> int:
        with app.app_context(), counting() as statements:
            seen(admin, BASE)
        return len(statements)

    def grow(first: int, last: int) -> None:
        with app.app_context():
            for number in range(first, last):
                service.add_database(f"db{number}", f"postgresql://u@h{number}/d", by="ann")

    with app.app_context():
        lookup.default_database()
    grow(0, 3)
    few = cost()
    grow(3, 39)
    assert cost() == few
    assert few <= 14
