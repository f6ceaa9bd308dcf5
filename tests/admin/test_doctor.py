"""The doctor's page."""

import re
import secrets
from collections.abc import Callable

from flask import Flask
from flask.testing import FlaskClient

from app.models import Trigger
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.jobs import workers
from tests.conftest import Database, signed_in, url_of


def states_of(page: str) -> list[str]:
    return re.findall(r'class="status status-(\w+)"', page)


def test_every_page_leads_to_the_doctor_through_the_settings(ann: FlaskClient):
    assert 'href="/admin/settings"' in ann.get("/admin/backup").text
    assert 'href="/admin/doctor"' in ann.get("/admin/settings").text
    assert 'href="/admin/doctor" aria-current="page"' in ann.get("/admin/doctor").text


def test_a_problem_is_told_first_by_word_and_icon(ann: FlaskClient):
    answer = ann.get("/admin/doctor")
    assert answer.status_code == 200
    page = answer.text
    assert "Something needs your attention" in page
    assert "safety-bad" in page
    assert re.search(r"icons\.svg#failed.*?</svg> Problem</span>", page)
    assert re.search(r"icons\.svg#missing.*?</svg> Warning</span>", page)
    assert re.search(r"icons\.svg#completed.*?</svg> Ok</span>", page)
    assert f"Problems: {states_of(page).count('problem')} ·" in page
    assert "no connection to database" in page
    assert "Is the server running, and does a firewall" in page
    assert "style=" not in page


def test_warnings_are_no_alarm(admin: FlaskClient):
    page = admin.get("/admin/doctor").text
    assert "Backups can be made" in page
    assert "safety-none" in page
    assert "Problems: 0 ·" in page


def test_a_panel_without_a_complaint_is_green(app: Flask, admin: FlaskClient):
    with app.app_context():
        backups.create_backup(trigger=Trigger.CLI, created_by="tester")
        workers.beat()
        app.extensions["backstop.settings"].backup_dir.chmod(0o700)
    page = admin.get("/admin/doctor").text
    assert "safety-good" in page
    assert set(states_of(page)) == {"ok"}


def test_hostile_names_are_shown_as_text(
    make_app: Callable[..., Flask], shop: Database, server: Conninfo
):
    role = f"low_{secrets.token_hex(4)}"
    shop.run(f"CREATE ROLE {role} LOGIN PASSWORD 'low'")
    shop.run('CREATE TABLE "<script>alert(1)</script>" ()')
    client = signed_in(make_app(database_url=url_of(server, shop.name, role, "low")))
    page = client.get("/admin/doctor").text
    shop.run(f"DROP ROLE {role}")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
