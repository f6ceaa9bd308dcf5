"""The pages in another language: who gets it, and what stays English."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask, g
from flask.testing import FlaskClient

from app.extensions import writing
from app.models import Alarm, Fact, Status
from app.models.types import now
from app.wording import said
from tests.admin.test_backups import LIST, followed, seen, sent
from tests.api.test_downloads import planted
from tests.conftest import panel_in, signed_in

PAGE = "/admin/account"
GERMAN = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


@pytest.fixture
def ann(panel: Flask) -> FlaskClient:
    return signed_in(panel)


@pytest.fixture
def anna(ann: FlaskClient) -> FlaskClient:
    """She reads German."""
    answer = sent(ann, PAGE, PAGE, time_zone="Europe/Berlin", language="de")
    assert "Ihre Einstellungen wurden gespeichert." in followed(ann, answer).text
    return ann


def lang_of(text: str) -> str:
    return text.partition('<html lang="')[2][:2]


def test_a_visitor_gets_the_language_of_their_browser(panel: Flask):
    visitor = panel.test_client()
    page = visitor.get("/admin/login", headers=GERMAN).text
    assert (lang_of(page), "Benutzername" in page) == ("de", True)
    assert lang_of(visitor.get("/admin/login").text) == "en"
    assert lang_of(visitor.get("/admin/login", headers={"Accept-Language": "fr"}).text) == "en"
    wrong = sent(visitor, "/admin/login", "/admin/login", username="x", password="y")
    assert "The username or the password is wrong" in wrong.text
    missing = visitor.get("/nothing", headers=GERMAN).text
    assert (lang_of(missing), "Zurück zu den Backups" in missing) == ("de", True)


def test_an_admin_s_own_language_precedes_that_of_the_browser(anna: FlaskClient):
    page = anna.get(LIST, headers={"Accept-Language": "en"}).text
    assert (lang_of(page), "Noch keine Backups." in page) == ("de", True)
    sent(anna, PAGE, PAGE, time_zone="UTC", language="")
    assert lang_of(anna.get(LIST).text) == "en"
    assert lang_of(anna.get(LIST, headers=GERMAN).text) == "de"


def test_dates_numbers_and_plurals_are_those_of_the_language(panel: Flask, anna: FlaskClient):
    late = datetime(2026, 7, 14, 23, 30, 15, tzinfo=UTC)
    name = planted(panel, created_at=late, size=1_234_567)
    page = seen(anna, LIST)
    for text in ("Mittwoch, 15. Juli 2026", "15.07.2026, 01:30:15", "1,2 MiB", "Abgeschlossen"):
        assert text in page.text
    assert page.all("span", title="1.234.567 Bytes")
    chosen = seen(anna, f"{LIST}/chosen?act=delete&filename={name}")
    assert "1 Backup löschen" in chosen.text
    assert "vor " in seen(anna, f"{LIST}/{name}/restore").text


def test_errors_of_services_are_translated_as_pages_show_them(panel: Flask, anna: FlaskClient):
    answer = sent(anna, PAGE, PAGE, time_zone="Mars", language="de")
    assert "Eine Zeitzone &#39;Mars&#39; gibt es nicht" in answer.text
    assert "Kein Backup hat diesen Namen" in seen(anna, f"{LIST}/nothing", 404).text
    failed = planted(
        panel, status=Status.FAILED, error_message="the backup was interrupted", sha256=None
    )
    assert "Das Backup wurde unterbrochen" in seen(anna, f"{LIST}/{failed}").text
    with panel.app_context(), writing() as session:
        session.add(
            Alarm(
                kind=Fact.BACKUP_FAILED,
                subject="x",
                title="A backup of crm failed",
                body="b",
                opened_at=now(),
            )
        )
    assert "Ein Backup von crm ist fehlgeschlagen" in seen(anna, LIST).text


def test_the_api_the_audit_and_the_terminal_stay_english(panel: Flask, anna: FlaskClient):
    refused = anna.patch("/api/admin/account", json={"timeZone": "Mars"}, headers=GERMAN)
    assert refused.json["title"] == "there is no time zone 'Mars'"
    answer = sent(anna, "/admin/password", "/admin/password", password="a", new="b", again="c")
    assert "unterscheiden sich" in answer.text
    entry = anna.get("/api/admin/audit?action=admin.password").json["entries"][0]
    assert entry["detail"] == "The two passwords differ."
    with panel.app_context():
        assert said("the dump is damaged") == "the dump is damaged"


@pytest.mark.parametrize("language", ["fr", "de_DE", "../de", "x" * 5000])
def test_a_language_without_a_catalogue_is_refused(ann: FlaskClient, language: str):
    assert sent(ann, PAGE, PAGE, time_zone="UTC", language=language).status_code == 422
    body = {"language": language}
    assert ann.patch("/api/admin/account", json=body).status_code == 422
    assert ann.get("/api/admin/account").json["account"]["language"] == ""


def test_a_text_with_values_is_translated_by_its_template_and_a_strange_one_stays(
    anna: FlaskClient,
):
    with anna.application.test_request_context():
        g.viewer_language = "de"
        assert said("no database is named 'crm'") == "keine Datenbank heißt 'crm'"
        assert said("the drill could not finish: the dump is damaged") == (
            "der Wiederherstellungstest konnte nicht abgeschlossen werden: der Dump ist beschädigt"
        )
        assert said("FATAL: the sky is falling") == "FATAL: the sky is falling"
        long = "no database is named " + " on : of " * 10_000
        assert said(long) == long
