"""Drills and restores as pages: the wizard, the list, and each one's page."""

import re
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.extensions import writing
from app.models import Kind, Level, Restore, Result, Status, Trigger
from app.models.types import now
from app.services.backups import good, listing
from app.services.backups import service as backups
from app.services.databases.lookup import default_database
from app.services.databases.service import add_database
from app.services.restores import service as restores
from tests.admin.test_backups import LIST, Page, followed, row_of, seen, sent, token_on
from tests.api.test_downloads import planted
from tests.api.test_restores import nothing_pending, planted_proof, planted_restore
from tests.conftest import PASSWORD, Database, database_id, signed_in
from tests.services.health.test_figures import counting

RESTORES = "/admin/restores"

__all__ = ["nothing_pending"]


def ended(client: FlaskClient, url: str) -> Page:
    """The page of a restore that has come to its end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        page = seen(client, url)
        if not any("data-pending" in found for _, found in page.elements):
            return page
        time.sleep(0.05)
    raise AssertionError("it does not end")


def made(app: Flask, client: FlaskClient) -> str:
    answer = client.post("/api/admin/backup")
    assert answer.status_code == 201, answer.text
    return str(answer.get_json()["backup"]["filename"])


@pytest.mark.usefixtures("worker")
def test_a_drill_is_started_by_a_button_and_tells_what_it_found(app: Flask, admin: FlaskClient):
    filename = made(app, admin)
    backup = f"{LIST}/{filename}"
    assert "Read back" in row_of(admin, filename).text
    page = seen(admin, backup)
    assert page.all("form", action=f"{backup}/drill", method="post")
    answer = sent(admin, f"{backup}/drill", backup)
    assert answer.status_code == 302
    page = ended(admin, answer.location)
    assert "2 tables, 550 rows, no difference" in page.text
    assert "processing data for table" in page.text
    assert not page.all("a", href=f"{answer.location}/undo")
    assert re.search(
        r"Restored (now|\d+ seconds? ago|a second ago) in", row_of(admin, filename).text
    )
    page = seen(admin, backup)
    assert {"Restored", "Read back"} <= set(page.within("span"))


@pytest.mark.usefixtures("worker")
def test_a_replace_takes_name_and_password_and_so_does_its_undo(
    app: Flask, admin: FlaskClient, shop: Database
):
    filename = made(app, admin)
    shop.run("DELETE FROM orders")
    wizard = f"{LIST}/{filename}/restore"
    page = seen(admin, wizard)
    assert "2 tables, 550 rows" in page.text
    assert "All roles that own something in it exist." in page.text
    assert "its sessions are ended (0 now)" in page.text
    assert "is needed on the server" in page.text
    assert re.search(r"Proven Read back \d{4}-", " ".join(page.text.split()))
    (form,) = [each for each in page.forms if each["action"] == wizard]
    assert form["field into"].startswith(f"{shop.name}_restored_")

    wrong = [
        ({"confirm": "another", "password": PASSWORD}, f"Type {shop.name} to replace it"),
        ({"confirm": shop.name, "password": "not mine"}, "The password is wrong."),
        ({"confirm": shop.name}, "Your password is required."),
    ]
    for fields, told in wrong:
        answer = sent(admin, wizard, mode="replace", **fields)
        assert answer.status_code == 422
        assert told in answer.text
        assert PASSWORD not in answer.text
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]

    answer = sent(admin, wizard, mode="replace", confirm=shop.name, password=PASSWORD)
    assert answer.status_code == 302, answer.text
    url = answer.location
    page = ended(admin, url)
    assert "It is kept as" in page.text
    assert "Backup made first" in page.text
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]

    assert page.link("Undo…") == f"{url}/undo"
    assert "Bring the old database back?" in seen(admin, f"{url}/undo").text
    assert sent(admin, f"{url}/undo", f"{url}/undo", password="not mine").status_code == 422
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]
    page = followed(admin, sent(admin, f"{url}/undo", f"{url}/undo", password=PASSWORD))
    assert f"{shop.name} is the old database again" in page.text
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]

    assert page.link("Drop it…") == f"{url}/drop"
    sure = {"name": shop.name, "password": PASSWORD}
    for wrong in ({"name": "another"}, {"password": "not mine"}, {"password": ""}):
        assert sent(admin, f"{url}/drop", f"{url}/drop", **sure | wrong).status_code == 422
    page = followed(admin, sent(admin, f"{url}/drop", f"{url}/drop", **sure))
    assert "was dropped" in page.text
    page = followed(admin, sent(admin, f"{url}/drop", f"{url}/drop", **sure))
    assert "This restore has no database to drop." in page.text


def test_the_wizard_says_what_is_in_the_way_and_takes_another_name(
    app: Flask, make_app: Callable[..., Flask], shop: Database
):
    client = signed_in(app)
    with app.app_context():
        filename = backups.create_backup(trigger=Trigger.CLI, created_by="ann").filename
    with app.app_context():
        other = database_id("elsewhere:5432", "shop")  # DATABASE_URL names it no longer
    with app.app_context(), writing():
        row = listing.get_backup(filename)
        row.server, row.database, row.database_id = "elsewhere:5432", "shop", other
        row.contents = (row.contents or {}) | {"owner": "Gone"}
    wizard = f"{LIST}/{filename}/restore"
    page = seen(client, wizard)
    assert "is of another database than the one that is configured" in page.text
    assert "Role Gone does not exist" in page.text
    assert 'CREATE ROLE "Gone";' in page.text
    assert "disabled" in page.all("input", id="replace")[0]
    refused = sent(client, wizard, mode="beside", into=shop.name)
    assert refused.status_code == 422
    assert "cannot be the name of the new database" in Page(refused).text
    page = followed(client, sent(client, wizard, mode="beside", into="postgres"))
    assert 'Database "postgres" exists already.' in page.text
    page = followed(client, sent(client, wizard, mode="beside", into="another"))
    assert "Waiting for a worker" in page.text
    url = page.all("form", method="post")[-1]["action"].removesuffix("/cancel")
    busy = followed(client, sent(client, wizard, mode="beside", into="a_third"))
    assert "Another restore is running." in busy.text
    page = followed(client, sent(client, f"{url}/cancel", url))
    assert "The restore has been cancelled." in page.text
    assert "Cancelled by admin" in page.text
    assert "has ended already" in followed(client, sent(client, f"{url}/cancel")).text


def test_the_wizard_restores_to_the_server_of_another_database(
    app: Flask, new_database: Callable[..., Database]
):
    client, second = signed_in(app), new_database()
    with app.app_context():
        filename = backups.create_backup(trigger=Trigger.CLI, created_by="ann").filename
    wizard = f"{LIST}/{filename}/restore"
    assert not seen(client, wizard).all("select", id="to")
    with app.app_context():
        second_id = add_database("second", second.url, by="ann").id
    assert seen(client, wizard).all("select", id="to")

    page = seen(client, f"{wizard}?to=second")
    assert f"Replace {second.name}" in page.text
    assert f"Type {second.name} to confirm" in page.text
    confirmed = {"to": "second", "mode": "replace", "password": PASSWORD}
    refused = sent(client, wizard, confirm=filename, **confirmed)
    assert refused.status_code == 422
    assert f"Type {second.name} to replace it" in Page(refused).text
    started = sent(client, f"{wizard}?to=second", confirm=second.name, **confirmed)
    with app.app_context():
        restore = restores.get_restore(started.location.rpartition("/")[2])
        assert (restore.database, restore.database_id) == (second.name, second_id)
    seen(client, f"{wizard}?to=nobody", 404)


def test_without_a_server_the_wizard_offers_nothing(panel: Flask, ann: FlaskClient):
    page = seen(ann, f"{LIST}/{planted(panel)}/restore")
    assert "No connection to database" in page.text
    assert "Start the restore" not in page.text
    page = seen(ann, f"{LIST}/{planted(panel, status=Status.FAILED)}/restore")
    assert "is FAILED and has no dump" in page.text
    seen(ann, f"{LIST}/backup_x.dump/restore", 404)


def test_too_many_wrong_passwords_are_429(panel: Flask):
    client = signed_in(panel)
    url = f"{RESTORES}/{planted_restore(panel, planted(panel), kind=Kind.REPLACE, kept='x')}"
    address = {"REMOTE_ADDR": "192.0.2.77"}
    token = seen(client, f"{url}/undo").all("input", name="csrf_token")[0]["value"]
    form = {"csrf_token": token, "password": "not mine"}
    statuses = [
        client.post(f"{url}/undo", data=form, environ_overrides=address).status_code
        for _ in range(12)
    ]
    assert statuses[0] == 422
    answer = client.post(f"{url}/undo", data=form, environ_overrides=address)
    assert (statuses[-1], answer.status_code) == (429, 429)
    assert int(answer.headers["Retry-After"]) > 0
    assert "Too many failed sign-ins." in answer.text


def test_a_restore_with_differences_tells_all_of_them(panel: Flask, ann: FlaskClient):
    restore_id = planted_restore(
        panel,
        planted(panel),
        result={
            "differences": ["rows of public.orders: 500 <expected>, 499 found"],
            "missingRoles": ["ghost"],
            "privileged": ["EVENT TRIGGER audit"],
            "leftOut": ["SUBSCRIPTION s"],
        },
    )
    page = seen(ann, f"{RESTORES}/{restore_id}")
    assert "2 tables, 550 rows, 1 difference" in page.text
    assert "rows of public.orders: 500 <expected>, 499 found" in page.within("li")
    for told in ("ghost", "EVENT TRIGGER audit", "SUBSCRIPTION s"):
        assert told in page.text
    assert "1 difference" in seen(ann, RESTORES).text
    seen(ann, f"{RESTORES}/nothing", 404)


def test_a_running_restore_shows_its_progress(panel: Flask, ann: FlaskClient):
    progress = {
        "phase": "loading", "percent": 42.0, "tablesDone": 1, "tablesTotal": 2,
        "table": "public.orders", "bytesWritten": 0, "isLast": False,
    }  # fmt: skip
    restore_id = planted_restore(
        panel,
        planted(panel),
        status=Status.PENDING,
        started_at=now() - timedelta(seconds=10),
        claimed_by="elsewhere boot ns 1 1",
        lease_until=now() + timedelta(minutes=5),
        progress=progress,
    )
    try:
        page = seen(ann, f"{RESTORES}/{restore_id}")
        assert "Loading public.orders, 1 of 2 tables done" in page.text
        assert page.all("progress", value="42.0")
        assert page.link("Undo…") is None
        assert seen(ann, RESTORES).all("tr", **{"data-pending": ""})
        cancelled = ann.post(f"/api/admin/restores/{restore_id}/cancel")
        assert cancelled.status_code == 202
        assert "admin has cancelled it" in seen(ann, f"{RESTORES}/{restore_id}").text
    finally:
        with panel.app_context():
            from app.errors import AppError
            from app.models import Restore
            from app.services.jobs.outcomes import record_failure

            record_failure(restore_id, AppError("ended by the test"), job=Restore)


def test_the_list_of_restores_can_be_that_of_one_backup(panel: Flask, ann: FlaskClient):
    one, other = planted(panel), planted(panel)
    for filename in (one, other):
        planted_restore(panel, filename)
    page = seen(ann, f"{RESTORES}?filename={one}")
    assert one in page.text
    assert other not in page.text
    assert seen(ann, LIST).link("Restores") == RESTORES
    assert "No drills or restores yet." in seen(ann, f"{RESTORES}?filename=none").text


def test_a_failed_proof_is_loud(panel: Flask, ann: FlaskClient):
    before, filename = planted(panel), planted(panel)
    planted_proof(panel, filename)
    found = {"differences": ["rows of public.orders: 500 expected, 499 found"]}
    planted_proof(panel, filename, level=Level.RESTORED, result=Result.FAILED, evidence=found)
    assert "Proof failed" in row_of(ann, filename).within("strong")
    page = seen(ann, f"{LIST}/{filename}")
    assert "Proof failed" in page.within("strong")
    assert found["differences"][0] in page.within("li")
    with panel.app_context():
        assert good.find_newest_good(default_database()).filename == before
        assert restores.list_restores(filename=filename) == []
    assert "The proof of the last backup failed" in seen(ann, LIST).text


def test_a_drill_that_is_not_possible_says_nothing_about_the_backup(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    began = now() - timedelta(seconds=1)
    planted_proof(panel, filename, level=Level.RESTORED, result=Result.NOT_POSSIBLE)
    restore_id = planted_restore(
        panel,
        filename,
        kind=Kind.DRILL,
        status=Status.FAILED,
        started_at=began,
        finished_at=now(),
        error_message="this server lacks extensions of the backup: postgis",
    )
    page = seen(ann, f"{RESTORES}/{restore_id}")
    assert "That says nothing about the backup." in page.text
    assert "postgis" in page.text
    assert "Restored: not possible here" in seen(ann, f"{LIST}/{filename}").text


@pytest.mark.usefixtures("worker")
def test_a_restore_in_place_takes_name_password_and_the_word(
    app: Flask, admin: FlaskClient, shop: Database
):
    filename = made(app, admin)
    shop.run("DELETE FROM orders; CREATE TABLE newer (id int)")
    wizard = f"{LIST}/{filename}/restore"
    page = seen(admin, wizard)
    assert "Not in the backup, and kept: table public.newer." in page.text
    assert page.all("input", type="checkbox", name="superuser")
    fields = {"mode": "in place", "confirm": shop.name, "password": PASSWORD}
    wrong = [
        (fields | {"confirm": "another"}, f"Type {shop.name} to replace it"),
        (fields | {"password": "not mine"}, "The password is wrong."),
        (fields, "with all rights of role backstop"),
        (fields | {"tables": "public.orders"}, "Selected tables can only be restored beside."),
    ]
    for wanted, told in wrong:
        answer = sent(admin, wizard, **wanted)
        assert answer.status_code == 422
        assert told in answer.text
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]
    answer = sent(admin, wizard, **fields, superuser="y")
    assert answer.status_code == 302, answer.text
    page = ended(admin, answer.location)
    assert "Counted right after loading" in page.text
    assert "table public.newer: not in the backup" in page.text
    assert "Backup made first" in page.text
    assert page.link("Undo…") is None
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]
    shop.run("CREATE VIEW late AS SELECT * FROM orders")
    page = seen(admin, wizard)
    assert "view public.late depends on table public.orders." in page.text
    assert "disabled" in page.all("input", id="in-place")[0]
    assert "disabled" not in page.all("input", id="replace")[0]


def test_a_restore_that_could_not_tell_what_it_found_has_a_page(panel: Flask, ann: FlaskClient):
    restore_id = planted_restore(panel, planted(panel), kind=Kind.IN_PLACE)
    with panel.app_context(), writing() as session:
        session.get_one(Restore, restore_id).result = {}
    told = "done; its runner ended before it could report what it found"
    assert told in seen(ann, f"{RESTORES}/{restore_id}").text
    assert told in seen(ann, RESTORES).text


def test_the_pages_read_each_backup_once_in_few_statements(app: Flask, shop: Database):
    client = signed_in(app)
    with app.app_context():
        filename = backups.create_backup(trigger=Trigger.CLI, created_by="ann").filename
    page, wizard = f"{LIST}/{filename}", f"{LIST}/{filename}/restore"
    form = {"mode": "replace", "confirm": shop.name, "password": PASSWORD}
    form["csrf_token"] = token_on(client, wizard)

    def count(request: Callable[[], object]) -> tuple[int, int]:
        """All statements, and those that read the row of a backup."""
        with app.app_context(), counting() as statements:
            request()
        rows = [text for text in statements if text.startswith("SELECT database_backups.id,")]
        return len(statements), len(rows)

    total, rows = count(lambda: seen(client, wizard))
    assert (total <= 20, rows) == (True, 1)
    total, rows = count(lambda: client.post(wizard, data=form))
    assert (total <= 31, rows) == (True, 1)
    total, rows = count(lambda: seen(client, page))
    assert (total <= 10, rows) == (True, 1)
    total, rows = count(lambda: seen(client, LIST))
    # The list, the newest good one and a bad one; the default database, all to choose from,
    # the copies, and the sizes of those before.
    assert (total <= 14, rows <= 3) == (True, True)
