"""What other machines look at: health for everybody, figures for who has the token."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from socket import socket

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import Client

from app.extensions import writing
from app.metrics import listener
from app.models import Level, Worker
from app.models.types import now
from app.queue import queue
from app.services.health import readiness
from app.services.jobs import workers
from tests.conftest import panel_in, signed_in
from tests.services.health.test_figures import counting, plant, prove

TOKEN = "a token that Prometheus has"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    """A panel for one test: what was found of its health stands for a second."""
    with panel_in(tmp_path, sqlite_template, metrics_token=TOKEN) as app:
        yield app


@pytest.fixture
def visitor(panel: Flask) -> FlaskClient:
    return panel.test_client()


def reasons(visitor: FlaskClient) -> dict[str, str]:
    """What is wrong, asked anew."""
    for check in visitor.application.extensions.get("backstop.health", {}).values():
        check._moment = float("-inf")
    answer = visitor.get("/readyz")
    told = answer.json["checks"]
    assert list(told) == ["catalogue", "queue", "worker", "storage"]
    assert all(each["ok"] is not bool(each["reason"]) for each in told.values())
    wrong = {name: each["reason"] for name, each in told.items() if not each["ok"]}
    assert answer.json["ready"] is not bool(wrong)
    assert answer.status_code == (503 if wrong else 200)
    assert str(visitor.application.instance_path) not in answer.text
    return wrong


# Health


def test_alive_without_a_look_at_anything(visitor: FlaskClient, panel: Flask):
    (Path(panel.instance_path) / "catalogue.db").unlink()
    answer = visitor.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert answer.headers["Cache-Control"] == "no-store"


def test_ready_while_a_worker_lives(visitor: FlaskClient, panel: Flask):
    with panel.app_context():
        workers.beat()
    assert reasons(visitor) == {}
    with panel.app_context():
        workers.sign_off()
    assert reasons(visitor) == {"worker": "none runs, or it is silent"}


def test_two_missed_heartbeats_are_told_by_readyz_the_page_and_the_figures(
    visitor: FlaskClient, panel: Flask
):
    """A worker elsewhere, of which nothing else can be known."""
    with panel.app_context(), writing() as session:
        session.add(Worker(id="elsewhere boot ns 1 2", seen_at=now() - timedelta(seconds=15)))
    admin = signed_in(panel)
    assert reasons(visitor) == {}
    assert "The worker is silent" not in admin.get("/admin/backup").text
    assert figures(visitor)["backstop_workers", "living"] == 1
    with panel.app_context(), writing() as session:
        session.get_one(Worker, "elsewhere boot ns 1 2").seen_at = now() - timedelta(seconds=21)
    assert reasons(visitor) == {"worker": "none runs, or it is silent"}
    assert "The worker is silent" in admin.get("/admin/backup").text
    assert figures(visitor)["backstop_workers", "living"] == 0
    assert figures(visitor)["backstop_workers", "silent"] == 1


def test_every_page_says_that_no_worker_runs(panel: Flask):
    admin = signed_in(panel)
    for path in ("/admin/backup", "/admin/restores", "/admin/assertions", "/admin/doctor"):
        assert "No worker runs" in admin.get(path).text
    assert "worker" not in panel.test_client().get("/admin/login").text


def test_what_cannot_be_used_is_named_and_nothing_else_is(visitor: FlaskClient, panel: Flask):
    with panel.app_context():
        workers.beat()
    assert reasons(visitor) == {}
    folder = Path(panel.instance_path)
    (folder.parent / "backups").write_text("no folder")
    assert reasons(visitor) == {"storage": "cannot be written"}
    queue.storage.close()
    for each in folder.glob("queue.db*"):
        each.unlink()
    (folder / "queue.db").mkdir()
    for each in folder.glob("catalogue.db*"):
        each.unlink()
    for _ in range(2):  # a look at the workers may make an empty one
        assert reasons(visitor).keys() == {"catalogue", "queue", "worker", "storage"}


def test_a_catalogue_that_does_not_answer_holds_nobody_up(
    tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
):
    """It takes the connection, and then says nothing for ever."""
    monkeypatch.setattr(readiness, "LIMIT", 0.3)
    with closing(socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql+psycopg2://u:secret@127.0.0.1:{silent.getsockname()[1]}/catalogue"
        with panel_in(tmp_path, sqlite_template, catalogue_url=url) as app:
            visitor = app.test_client()
            began = time.monotonic()
            answer = visitor.get("/readyz")
            assert time.monotonic() - began < 2
            assert answer.status_code == 503
            assert answer.json["checks"]["catalogue"]["reason"] == "does not answer"
            assert answer.json["checks"]["storage"]["ok"]
            began = time.monotonic()
            assert visitor.get("/readyz").status_code == 503  # who comes later waits no more
            assert time.monotonic() - began < 0.25
            assert visitor.get("/healthz").status_code == 200


def test_many_who_ask_do_not_make_it_look_more_often(
    visitor: FlaskClient, monkeypatch: pytest.MonkeyPatch
):
    looks = []
    look = readiness.look_at_queue
    monkeypatch.setitem(
        readiness._LOOKS, "queue", (lambda: looks.append(1) or look(), "cannot be used")
    )
    for _ in range(20):
        visitor.get("/readyz")
    assert len(looks) <= 3


# Figures


def figures(visitor: FlaskClient) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values."""
    answer = visitor.get("/metrics", headers=BEARER)
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_without_a_token_in_the_settings_there_are_no_figures(
    tmp_path: Path, sqlite_template: Path
):
    with panel_in(tmp_path, sqlite_template) as app:
        assert app.test_client().get("/metrics", headers=BEARER).status_code == 404
        assert signed_in(app).get("/metrics").status_code == 404


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"Bearer {TOKEN}x",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xe9",
        "Bearer a=b",
    ],
)
def test_another_token_opens_nothing(visitor: FlaskClient, header: str):
    answer = visitor.get("/metrics", headers={"Authorization": header} if header else {})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "backstop_" not in answer.text


def test_the_token_opens_the_figures_whatever_form_is_asked_for(visitor: FlaskClient):
    plain = visitor.get("/metrics", headers=BEARER)
    assert plain.content_type.startswith("text/plain")
    assert "backstop_backups" in plain.text
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert visitor.get("/metrics", headers=BEARER | accept).text.endswith("# EOF\n")


def test_a_part_that_is_away_leaves_the_others_figures(visitor: FlaskClient, panel: Flask):
    for each in Path(panel.instance_path).glob("catalogue.db*"):
        each.unlink()
    found = figures(visitor)
    assert found["backstop_up", "catalogue"] == 0
    assert found["backstop_up", "queue"] == found["backstop_up", "storage"] == 1
    assert found["backstop_queue_length",] == 0
    assert ("backstop_stored_bytes",) not in found


def test_a_listener_of_its_own_needs_no_token_and_serves_nothing_else(panel: Flask):
    open_to_all = Client(listener(panel))
    assert "backstop_build_info" in open_to_all.get("/metrics").text
    assert open_to_all.post("/metrics").status_code == 405
    for path in ("/", "/admin/login", "/healthz", "/metrics/"):
        assert open_to_all.get(path).status_code == 404


# What it costs


@pytest.mark.parametrize(
    "path", ["/admin/backup", "/api/admin/backup", "/admin/restores", "/metrics"]
)
def test_more_backups_do_not_take_more_queries(panel: Flask, path: str):
    admin = signed_in(panel)

    def ask() -> int:
        with panel.app_context(), counting() as sent:
            assert admin.get(path, headers=BEARER).status_code == 200
        return len(sent)

    ask()
    with panel.app_context():
        prove(plant(1), 2, Level.READ)
    few = ask()
    with panel.app_context():
        for n in range(30):
            prove(plant(2 + n / 10, f"shop_{n % 7}"), 6, Level.RESTORED)
    assert ask() == few <= 14
