"""Several backups of the list at once: pinned or deleted."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.models import Status
from app.models.types import now
from app.services.backups import listing, pins
from tests.admin.test_backups import LIST, Page, followed, seen, token_on
from tests.api.test_downloads import planted
from tests.conftest import panel_in, signed_in

CHOSEN = f"{LIST}/chosen"


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


@pytest.fixture
def ann(panel: Flask) -> FlaskClient:
    return signed_in(panel)


@pytest.fixture
def names(panel: Flask) -> list[str]:
    """Three backups with their dumps, newest first."""
    return sorted((planted(panel) for _ in range(3)), reverse=True)


def asked(names: list[str], act: str) -> str:
    return f"{CHOSEN}?act={act}" + "".join(f"&filename={name}" for name in names)


def sent(client: FlaskClient, act: str, names: list[str], **fields: str) -> TestResponse:
    """The form of the page that asks, sent as a browser would."""
    token = token_on(client, asked(names, act))
    return client.post(f"{CHOSEN}/{act}", data={"csrf_token": token, "filename": names} | fields)


def left(panel: Flask) -> list[str]:
    with panel.app_context():
        return [backup.filename for backup in listing.list_backups().backups]


def chosen_on(page: Page) -> list[str]:
    return [field["value"] for field in page.all("input", name="filename")]


def test_each_backup_that_has_ended_can_be_chosen_by_the_address(
    panel: Flask, ann: FlaskClient, names: list[str]
):
    pending = planted(panel, status=Status.PENDING)
    page = seen(ann, LIST)
    assert chosen_on(page) == names
    assert f"/admin/backup/{pending}" in [link.get("href") for link in page.all("a")]
    assert chosen_on(seen(ann, asked(names[1:], "pin"))) == names[1:]


def test_the_chosen_ones_are_deleted_once_their_number_was_typed(
    panel: Flask, ann: FlaskClient, names: list[str]
):
    answer = sent(ann, "delete", names[1:], name="3")
    assert answer.status_code == 422
    assert "Type 2 to delete these backups." in answer.text
    assert left(panel) == names
    page = followed(ann, sent(ann, "delete", names[1:], name="2"))
    assert "2 backups have been deleted." in page.text
    assert left(panel) == names[:1]


def test_a_deletion_that_leaves_no_good_backup_says_so(
    panel: Flask, ann: FlaskClient, names: list[str]
):
    warning = "No good backup of shop would be left."
    assert warning not in seen(ann, asked(names[1:], "delete")).text
    assert warning in seen(ann, asked(names, "delete")).text
    assert warning not in seen(ann, asked(names, "pin")).text


def test_a_pinned_one_stays_and_the_others_go(panel: Flask, ann: FlaskClient, names: list[str]):
    with panel.app_context():
        pins.pin_backup(names[0], "for the audit", by="ann")
    page = followed(ann, sent(ann, "delete", names, name="3"))
    assert "2 backups have been deleted." in page.text
    assert f"{names[0]} is pinned: unpin it first" in page.text
    assert left(panel) == names[:1]


def test_the_chosen_ones_are_pinned_for_one_reason(
    panel: Flask, ann: FlaskClient, names: list[str]
):
    answer = sent(ann, "pin", names[:2], reason=" ")
    assert answer.status_code == 422
    assert "The reason must have 1 to 200 printable characters" in answer.text
    page = followed(ann, sent(ann, "pin", names[:2], reason="for the audit"))
    assert "2 backups have been pinned." in page.text
    assert len(chosen_on(seen(ann, f"{LIST}?pinned=yes"))) == 2


def test_what_cannot_be_pinned_is_named_and_the_rest_is(
    panel: Flask, ann: FlaskClient, names: list[str]
):
    moment = now() - timedelta(days=1)
    failed = planted(panel, status=Status.FAILED, created_at=moment)
    page = followed(ann, sent(ann, "pin", [failed, names[0]], reason="for the audit"))
    assert "1 backup has been pinned." in page.text
    assert f"{failed} is FAILED and has no dump to keep." in page.text


@pytest.mark.parametrize("query", ["", "?act=delete", "?filename=../../etc/passwd&act=pin"])
def test_without_a_choice_the_list_says_what_to_do(ann: FlaskClient, query: str):
    page = followed(ann, ann.get(f"{CHOSEN}{query}"))
    assert "Choose backups by the boxes before their dates first." in page.text


def test_nothing_chosen_is_nothing_deleted(panel: Flask, ann: FlaskClient, names: list[str]):
    token = token_on(ann)
    answer = ann.post(f"{CHOSEN}/delete", data={"csrf_token": token, "name": "0"})
    assert "Choose backups" in followed(ann, answer).text
    assert left(panel) == names
