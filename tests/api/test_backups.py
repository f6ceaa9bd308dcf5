"""The contract of the JSON API: each call, each answer, and what it does not take."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.api import backups as face
from app.config import WEB_THREADS
from app.errors import AppError
from app.extensions import writing
from app.models import DatabaseBackup, Status
from app.models.types import now
from app.services.backups import listing, service
from app.services.backups.filters import Filters
from app.services.jobs import claims, progress
from app.services.jobs.outcomes import record_failure
from tests.api.test_downloads import dump_of, is_problem, planted, state_of
from tests.conftest import (
    Database,
    locked,
    panel_in,
    sessions,
    signed_in,
    waiting,
    working,
)
from tests.postgres.conftest import wait_until

COLLECTION = "/api/admin/backup"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FILENAME = re.compile(r"backup_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z\.dump")
CUID = re.compile(r"[a-z][a-z0-9]{23}")
ROW = {
    "id", "filename", "size", "status", "notes", "createdAt", "server", "database", "trigger",
    "createdBy", "startedAt", "finishedAt", "sha256", "serverVersion", "toolVersion",
    "compression", "oldestReader", "error", "proof", "foreign", "isPartial",
    "pinnedAt", "pinnedBy", "pinReason",
}  # fmt: skip


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path_factory.mktemp("panel"), sqlite_template, api_wait=7) as app:
        yield app


@pytest.fixture
def nothing_pending(panel: Flask) -> Iterator[None]:
    """What a test has queued fails afterwards: no worker would ever take it."""
    yield
    end_what_is_pending(panel)


def end_what_is_pending(app: Flask) -> None:
    with app.app_context():
        for backup in listing.list_backups(Filters(status=Status.PENDING)).backups:
            record_failure(backup.id, AppError("ended by the test"))


def created(client: FlaskClient, notes: str = "", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(COLLECTION, json={"notes": notes}, headers=named)


def details_of(client: FlaskClient, filename: str) -> dict[str, Any]:
    answer = client.get(f"{COLLECTION}/{filename}/details")
    assert answer.status_code == 200
    return dict(answer.get_json())


def ended(client: FlaskClient, filename: str) -> dict[str, Any]:
    """The details of a backup when it is no longer pending."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = details_of(client, filename)
        if found["status"] != "PENDING":
            return found
        time.sleep(0.02)
    raise TimeoutError(filename)


# POST


@pytest.mark.usefixtures("worker")
def test_create_waits_for_the_end_and_answers_with_the_backup(app: Flask, admin: FlaskClient):
    answer = created(admin, "before the migration")

    assert answer.status_code == 201
    assert answer.content_type == "application/json"
    told = answer.get_json()
    assert set(told) == {"success", "backup", "message"}
    assert told["success"] is True
    assert told["message"] == "Database backup created successfully"
    backup = told["backup"]
    assert set(backup) == ROW
    assert CUID.fullmatch(backup["id"])
    assert FILENAME.fullmatch(backup["filename"])
    assert backup["filename"] == f"backup_{backup['createdAt'].translate(IN_NAMES)}.dump"
    assert backup["status"] == "COMPLETED"
    assert backup["notes"] == "before the migration"
    assert backup["trigger"] == "api"
    assert backup["createdBy"] == "admin"
    assert backup["error"] is None
    assert all(MOMENT.fullmatch(backup[each]) for each in ("createdAt", "startedAt", "finishedAt"))
    assert backup["createdAt"] <= backup["startedAt"] <= backup["finishedAt"]
    assert dump_of(app, backup["filename"]).stat().st_size == backup["size"] > 0
    assert len(backup["sha256"]) == 64

    details = admin.get(answer.headers["Location"]).get_json()
    assert set(details) == ROW | {
        "fileExists",
        "log",
        "progress",
        "proofs",
        "restore",
        "roles",
        "brings",
    }
    assert {key: details[key] for key in ROW} == backup
    assert details["fileExists"] is True
    assert 'dumping contents of table "public.orders"' in details["log"]
    assert details["progress"] is None
    create, restore = details["restore"]["commands"]
    assert "/createdb " in create
    assert "/pg_restore " in restore
    assert restore.endswith(str(dump_of(app, backup["filename"])))
    assert details["restore"]["oldestReader"] == backup["oldestReader"]
    assert details["restore"]["warning"] == ""

    listed = admin.get(COLLECTION).get_json()
    assert listed == {"backups": [backup | {"fileExists": True}], "nextBefore": None}

    deleted = admin.delete(f"{COLLECTION}/{backup['filename']}")
    assert deleted.status_code == 200
    assert set(deleted.get_json()) == {"success", "message"}
    assert deleted.get_json()["success"] is True
    assert not dump_of(app, backup["filename"]).exists()
    assert not dump_of(app, backup["filename"] + ".json").exists()
    assert admin.get(COLLECTION).get_json()["backups"] == []


IN_NAMES = str.maketrans(":.", "--")


@pytest.mark.usefixtures("worker")
def test_create_needs_no_body_and_no_content_type(admin: FlaskClient):
    """curl -X POST, and curl with the documented content type and nothing in it."""
    assert admin.post(COLLECTION).status_code == 201
    assert admin.post(COLLECTION, content_type="application/json").status_code == 201
    assert admin.post(COLLECTION, json={}).get_json()["backup"]["notes"] == ""


@pytest.mark.usefixtures("worker")
def test_who_prefers_not_to_wait_gets_the_pending_row_at_once(admin: FlaskClient, shop: Database):
    with held_table(shop):
        answer = created(admin, Prefer="respond-async")
        assert answer.status_code == 202
        told = answer.get_json()
        assert set(told) == {"success", "backup", "message"}
        assert told["success"] is True
        assert set(told["backup"]) == ROW
        assert told["backup"]["status"] == "PENDING"
        filename = told["backup"]["filename"]
        assert answer.headers["Location"] == f"{COLLECTION}/{filename}/details"
        second = created(admin, Prefer="respond-async")
        assert is_problem(second, 409)
        assert filename in second.get_json(force=True)["title"]
        assert "admin" in second.get_json(force=True)["detail"]
        assert is_problem(admin.delete(f"{COLLECTION}/{filename}"), 409)
    assert ended(admin, filename)["status"] == "COMPLETED"


class held_table:  # noqa: N801 - reads as words: with held_table(…)
    """A table that no dump gets past for a while."""

    def __init__(self, database: Database) -> None:
        self.url = database.url

    def __enter__(self) -> None:
        self.connection = psycopg2.connect(self.url)
        with self.connection.cursor() as cursor:
            cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def test_without_a_worker_the_wait_ends_with_the_pending_row(admin: FlaskClient):
    begun = time.monotonic()
    answer = created(admin, Prefer="wait=1")
    assert time.monotonic() - begun >= 1
    assert answer.status_code == 202
    assert answer.get_json()["backup"]["status"] == "PENDING"
    details = details_of(admin, answer.get_json()["backup"]["filename"])
    assert details["progress"] is None
    assert details["restore"] is None


def test_a_failed_dump_is_a_502_with_the_failed_row(make_app: Callable[..., Flask]):
    app = make_app(database_url="postgresql://nobody:s3cret-pw@127.0.0.1:1/nowhere")
    client = signed_in(app)
    with working(app):
        answer = created(client, "in vain")
    assert is_problem(answer, 502)
    told = answer.get_json(force=True)
    assert "no connection" in told["title"]
    assert "Connection refused" in told["detail"]
    assert "server running" in told["hint"]
    backup = told["backup"]
    assert set(backup) == ROW
    assert backup["status"] == "FAILED"
    assert backup["notes"] == "in vain"
    assert backup["size"] == 0
    assert backup["error"] == {name: told[key] for name, key in ERROR_KEYS.items()}
    assert answer.headers["Location"] == f"{COLLECTION}/{backup['filename']}/details"
    details = details_of(client, backup["filename"])
    assert details["fileExists"] is False
    assert details["error"] == backup["error"]
    assert "s3cret-pw" not in answer.text + json.dumps(details)
    assert not any(dump_of(app, "").glob("*"))


ERROR_KEYS = {"message": "title", "detail": "detail", "hint": "hint"}


PREFERENCES = [
    (None, 7),
    ("wait=3", 3),
    ("wait=7", 7),
    ("wait=9999", 7),
    ("wait=0", None),
    ("respond-async", None),
    ("respond-async, wait=5", None),
    ("handling=lenient, wait=2", 2),
    ('wait="4"', 4),
    ("wait=-1", 7),
    ("wait=x", 7),
    ("wait=1.5", 7),
    ("wait", 7),
    (",;=", 7),
    # Preferences know no upper and lower case, and may carry parameters (RFC 7240, 2).
    ("Wait=3", 3),
    ("Respond-Async", None),
    ('respond-async; foo="bar"', None),
    ("wait=3; foo=bar", 3),
    (f"wait={'9' * 5000}", 7),
]


@pytest.mark.parametrize(("prefer", "seconds"), PREFERENCES, ids=lambda value: str(value)[:30])
@pytest.mark.usefixtures("nothing_pending")
def test_a_client_waits_as_long_as_it_prefers_and_we_allow(
    ann: FlaskClient, monkeypatch: pytest.MonkeyPatch, prefer: str | None, seconds: int | None
):
    waited: list[float] = []

    def not_waiting(backup_id: str, patience: float) -> DatabaseBackup:
        waited.append(patience)
        return wait_for_backup(backup_id, 0)

    wait_for_backup = service.wait_for_backup
    monkeypatch.setattr(service, "wait_for_backup", not_waiting)
    answer = created(ann, **({"Prefer": prefer} if prefer is not None else {}))
    assert answer.status_code == 202
    assert waited == ([] if seconds is None else [seconds])


@pytest.mark.usefixtures("nothing_pending")
def test_who_finds_no_place_to_wait_is_not_made_to(
    ann: FlaskClient, monkeypatch: pytest.MonkeyPatch
):
    def waiting(*_: object) -> None:
        raise AssertionError("it waited")

    monkeypatch.setattr(service, "wait_for_backup", waiting)
    taken = 0
    try:
        while face._waiting_places.acquire(blocking=False):
            taken += 1
        assert created(ann).status_code == 202
    finally:
        face._waiting_places.release(taken)


def test_a_wait_gives_its_place_back_however_it_ends(
    ann: FlaskClient, panel: Flask, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    before = free_places()
    monkeypatch.setattr(service, "wait_for_backup", broken)
    for _ in range(before + 1):
        assert is_problem(created(ann), 500)
        end_what_is_pending(panel)
    monkeypatch.undo()
    assert created(ann, Prefer="wait=1").status_code == 202
    end_what_is_pending(panel)
    assert free_places() == before == WEB_THREADS // 2


def free_places() -> int:
    free = 0
    while face._waiting_places.acquire(blocking=False):
        free += 1
    face._waiting_places.release(free)
    return free


# GET


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Flask]:
    """A panel with 205 backups, newest last: 1 pending, 2 failed, the others completed."""
    with panel_in(tmp_path_factory.mktemp("many"), sqlite_template) as app:
        rows = []
        for number in range(205):
            moment = now() - timedelta(minutes=500 - number)
            status = {100: "FAILED", 101: "FAILED", 204: "PENDING"}.get(number, "COMPLETED")
            rows.append({
                "filename": f"backup_number-{number:03d}.dump", "created_at": moment,
                "status": Status(status), "notes": f"Number {number}: 100% sure_thing",
                "database": "Größe" if number == 7 else "shop",
            })  # fmt: skip
        for row in rows[:3]:
            planted(app, **row)
        with app.app_context(), writing() as session:
            session.add_all(
                DatabaseBackup(server="s", trigger="cli", **row)  # type: ignore[arg-type]
                for row in rows[3:]
            )
        yield app


@pytest.fixture(scope="module")
def reader(many: Flask) -> FlaskClient:
    return signed_in(many)


def listed(client: FlaskClient, query: str = "") -> tuple[list[int], str | None]:
    answer = client.get(f"{COLLECTION}{query}")
    assert answer.status_code == 200, answer.text
    told = answer.get_json()
    assert set(told) == {"backups", "nextBefore"}
    assert all(set(each) == ROW | {"fileExists"} for each in told["backups"])
    return [int(each["filename"][14:17]) for each in told["backups"]], told["nextBefore"]


def test_the_list_is_the_newest_fifty(reader: FlaskClient):
    numbers, next_before = listed(reader)
    assert numbers == list(range(204, 154, -1))
    assert next_before


def test_the_list_goes_on_where_it_ended_until_all_were_seen(reader: FlaskClient):
    seen: list[int] = []
    query: str | None = "?limit=60"
    while query:
        numbers, next_before = listed(reader, query)
        seen += numbers
        query = f"?limit=60&before={next_before}" if next_before else None
    assert seen == list(range(204, -1, -1))


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (50, 50), (200, 200)])
def test_the_list_is_as_long_as_asked_for(reader: FlaskClient, limit: int, count: int):
    assert len(listed(reader, f"?limit={limit}")[0]) == count


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("?status=FAILED", [101, 100]),
        ("?status=PENDING", [204]),
        ("?status=COMPLETED&limit=2", [203, 202]),
        ("?q=number%20101", [101]),
        ("?q=NUMBER-007", [7]),
        ("?q=Gr%C3%B6%C3%9Fe", [7]),
        ("?q=number%201&status=FAILED", [101, 100]),
        ("?q=%25&limit=1", [204]),
        ("?q=100_%20sure", []),
        ("?q=nothing%20like%20it", []),
        ("?q='%20OR%201=1%20--", []),
        ("?q=", list(range(204, 154, -1))),
    ],
)
def test_the_list_shows_what_was_looked_for(reader: FlaskClient, query: str, numbers: list[int]):
    assert listed(reader, query)[0] == numbers


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=201",
        "limit=x",
        "limit=",
        "limit=1.5",
        "limit=true",
        f"limit={'9' * 40}",
        f"limit={'9' * 5000}",
        "before=x",
        "before=~",
        "before=2026-99-99T00:00:00Z~a",
        "before=9999-12-31T23:59:59-23:59~a",
        "status=completed",
        "status=x",
        "status=",
        "Limit=1",
        "unknown=1",
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(reader: FlaskClient, query: str):
    answer = reader.get(f"{COLLECTION}?{query}")
    assert is_problem(answer, 422)
    assert query.partition("=")[0] in answer.text


def test_a_file_that_is_gone_shows_in_the_list_and_the_details(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    assert details_of(ann, filename)["fileExists"] is True
    dump_of(panel, filename).unlink()
    row = ann.get(f"{COLLECTION}?q={filename}").get_json()["backups"][0]
    assert row["fileExists"] is details_of(ann, filename)["fileExists"] is False
    assert row["status"] == "COMPLETED"


@pytest.mark.usefixtures("nothing_pending")
def test_the_details_of_a_running_backup_tell_how_far_it_is(panel: Flask, ann: FlaskClient):
    filename = planted(
        panel,
        status=Status.PENDING,
        finished_at=None,
        claimed_by=claims.runner(),
        lease_until=now() + timedelta(minutes=1),
    )
    folder = dump_of(panel, ".partial")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / filename).write_bytes(b"x" * 1234)
    progress = details_of(ann, filename)["progress"]
    assert progress["bytesWritten"] == 1234
    assert progress["elapsedSeconds"] >= 0
    assert set(progress) == {
        "phase", "percent", "tablesDone", "tablesTotal", "table", "bytesWritten",
        "elapsedSeconds", "secondsLeft", "isLast",
    }  # fmt: skip


def test_details_of_an_unknown_backup_are_not_found(ann: FlaskClient):
    assert is_problem(ann.get(f"{COLLECTION}/backup_x.dump/details"), 404)


# PATCH and DELETE


def test_notes_are_changed_and_nothing_else(panel: Flask, ann: FlaskClient):
    filename = planted(panel, notes="old")
    before = details_of(ann, filename)
    notes = "line one\nline two\t\"quoted\" 'single' <b> ünïcödé 日本語 🐘"
    answer = ann.patch(f"{COLLECTION}/{filename}", json={"notes": notes})
    assert answer.status_code == 200
    assert answer.get_json()["success"] is True
    assert answer.get_json()["backup"]["notes"] == notes
    assert details_of(ann, filename) == before | {"notes": notes}


def test_notes_may_be_two_thousand_characters_and_none(panel: Flask, ann: FlaskClient):
    url = f"{COLLECTION}/{planted(panel)}"
    for notes in ("🐘" * 2000, ""):
        assert ann.patch(url, json={"notes": notes}).get_json()["backup"]["notes"] == notes


def test_notes_of_an_unknown_backup_are_not_found(ann: FlaskClient):
    assert is_problem(ann.patch(f"{COLLECTION}/x.dump", json={"notes": "x"}), 404)


def test_notes_can_be_changed_in_a_folder_that_was_copied_without_its_hidden_files(
    panel: Flask, ann: FlaskClient
):
    url = f"{COLLECTION}/{planted(panel)}"
    shutil.rmtree(dump_of(panel, ".partial"))
    assert ann.patch(url, json={"notes": "moved"}).status_code == 200


def test_delete_of_a_dump_that_is_gone_already_is_no_error(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    dump_of(panel, filename).unlink()
    answer = ann.delete(f"{COLLECTION}/{filename}")
    assert answer.status_code == 200
    assert filename in answer.get_json()["message"]
    assert is_problem(ann.delete(f"{COLLECTION}/{filename}"), 404)


def test_delete_takes_one_backup_and_leaves_the_others(panel: Flask, ann: FlaskClient):
    doomed = planted(panel)
    failed = planted(panel, status=Status.FAILED)
    before_rows, before_files = state_of(panel)
    doomed_file = before_files[doomed]
    assert doomed_file
    assert ann.delete(f"{COLLECTION}/{doomed}").status_code == 200
    rows, files = state_of(panel)
    assert before_files == files | {doomed: doomed_file}
    assert len(rows) == len(before_rows) - 1
    assert ann.delete(f"{COLLECTION}/{failed}").status_code == 200


@pytest.mark.usefixtures("nothing_pending")
def test_delete_refuses_a_pending_backup(panel: Flask, ann: FlaskClient):
    filename = planted(panel, status=Status.PENDING, database="another")
    before = state_of(panel)
    assert is_problem(ann.delete(f"{COLLECTION}/{filename}"), 409)
    assert state_of(panel) == before


@pytest.mark.usefixtures("nothing_pending")
# Cancel


def test_a_waiting_backup_is_cancelled(panel: Flask, ann: FlaskClient, nothing_pending: None):
    filename = created(ann, Prefer="respond-async").get_json()["backup"]["filename"]
    answer = ann.post(f"{COLLECTION}/{filename}/cancel")
    assert answer.status_code == 200, answer.text
    told = answer.get_json()
    assert told["success"] is True
    assert told["message"] == f"Database backup {filename} has been cancelled"
    assert told["backup"]["status"] == "FAILED"
    assert told["backup"]["error"]["message"] == "cancelled by admin"
    assert is_problem(ann.post(f"{COLLECTION}/{filename}/cancel"), 409)


def test_a_running_backup_is_cancelled(admin: FlaskClient, worker: None, shop: Database):
    with locked(shop):
        filename = created(admin, Prefer="respond-async").get_json()["backup"]["filename"]
        wait_until(lambda: waiting(shop, filename), "pg_dump to wait for the lock")
        answer = admin.post(f"{COLLECTION}/{filename}/cancel")
        assert answer.status_code == 200, answer.text
        assert answer.get_json()["backup"]["error"]["message"] == "cancelled by admin"
        wait_until(lambda: sessions(shop, filename) == 0, "its sessions to end")
    assert created(admin).status_code == 201


def test_a_cancel_that_is_not_heard_yet_is_told_as_such(
    panel: Flask, ann: FlaskClient, nothing_pending: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.api.backups.CANCEL_PATIENCE", 0.0)
    filename = planted(
        panel,
        status=Status.PENDING,
        finished_at=None,
        claimed_by=claims.runner(),
        lease_until=now() + timedelta(minutes=1),
    )
    answer = ann.post(f"{COLLECTION}/{filename}/cancel")
    assert answer.status_code == 202
    assert answer.get_json()["backup"]["status"] == "PENDING"
    end_what_is_pending(panel)


def test_a_backup_that_has_ended_is_not_cancelled(panel: Flask, ann: FlaskClient):
    before = state_of(panel)
    filename = planted(panel)
    assert is_problem(ann.post(f"{COLLECTION}/{filename}/cancel"), 409)
    assert is_problem(ann.post(f"{COLLECTION}/backup_x.dump/cancel"), 404)
    assert len(state_of(panel)[0]) == len(before[0]) + 1


def test_one_too_many_backups_is_refused(
    panel: Flask, ann: FlaskClient, nothing_pending: None, monkeypatch: pytest.MonkeyPatch
):
    first, *_ = [
        planted(panel, status=Status.PENDING, finished_at=None, database=f"other {n}")
        for n in range(4)
    ]
    refused = created(ann)
    assert is_problem(refused, 409)
    assert first in refused.get_json(force=True)["detail"]
    assert "BACKSTOP_MAX_JOBS" in refused.get_json(force=True)["hint"]
    end_what_is_pending(panel)
    assert created(ann, Prefer="respond-async").status_code == 202


def test_a_backup_that_is_deleted_while_somebody_waits_for_it_is_no_bug(
    panel: Flask, ann: FlaskClient, monkeypatch: pytest.MonkeyPatch
):
    def end_and_delete() -> None:
        end_what_is_pending(panel)
        with panel.app_context():
            service.delete_backup(listing.list_backups(Filters(query="doomed")).backups[0].filename)

    def meanwhile(_seconds: float) -> None:
        with ThreadPoolExecutor(1) as somebody:
            somebody.submit(end_and_delete).result()

    monkeypatch.setattr(progress, "pause", meanwhile)
    assert created(ann, "doomed", Prefer="wait=5").status_code < 500


# What it does not take

JSON = "application/json"
BAD_BODIES: dict[str, tuple[bytes, str | None, int]] = {
    "half an object": (b'{"notes": "x"', JSON, 400),
    "no JSON": (b"notes=x", JSON, 400),
    "two objects": (b"{}{}", JSON, 400),
    "a trailing comma": (b'{"notes": "x",}', JSON, 400),
    "single quotes": (b"{'notes': 'x'}", JSON, 400),
    "bytes that are no UTF-8": (b'{"notes": "\xff\xfe"}', JSON, 400),
    "a space": (b" ", JSON, 400),
    "NUL": (b"\0", JSON, 400),
    "deep lists": (b"[" * 30_000, JSON, 400),
    "deep objects": (b'{"a":' * 12_000, JSON, 400),
    "deep and closed": (b'{"notes":' + b"[" * 30_000 + b"]" * 30_000 + b"}", JSON, 400),
    "a number too long": (b'{"notes": ' + b"9" * 5_000 + b"}", JSON, 400),
    "a list": (b"[]", JSON, 422),
    "a list of objects": (b'[{"notes": "x"}]', JSON, 422),
    "a text": (b'"notes"', JSON, 422),
    "a number": (b"1", JSON, 422),
    "true": (b"true", JSON, 422),
    "null": (b"null", JSON, 422),
    "NaN": (b"NaN", JSON, 422),
    "notes that are a number": (b'{"notes": 5}', JSON, 422),
    "notes that are null": (b'{"notes": null}', JSON, 422),
    "notes that are a list": (b'{"notes": ["x"]}', JSON, 422),
    "notes that are an object": (b'{"notes": {"x": 1}}', JSON, 422),
    "notes that are false": (b'{"notes": false}', JSON, 422),
    "a key too many": (b'{"notes": "x", "status": "COMPLETED"}', JSON, 422),
    "a strange key": (b'{"notes": "x", "\\ud800<script>": 1}', JSON, 422),
    "a key in capitals": (b'{"Notes": "x"}', JSON, 422),
    "a prototype": (b'{"notes": "x", "__proto__": {}}', JSON, 422),
    "notes too long": (b'{"notes": "' + b"x" * 2001 + b'"}', JSON, 422),
    "a NUL in the notes": (b'{"notes": "a\\u0000b"}', JSON, 422),
    "an escape in the notes": (b'{"notes": "a\\u001b[31mb"}', JSON, 422),
    "a carriage return in the notes": (b'{"notes": "a\\rb"}', JSON, 422),
    "a control character of the C1 set": (b'{"notes": "a\\u0085b"}', JSON, 422),
    "half a pair of surrogates": (b'{"notes": "a\\ud800b"}', JSON, 422),
    "no content type": (b'{"notes": "x"}', None, 415),
    "plain text": (b'{"notes": "x"}', "text/plain", 415),
    "a form": (b"notes=x", "application/x-www-form-urlencoded", 415),
    "a form with a file": (
        b'--b\r\nContent-Disposition: form-data; name="notes"\r\n\r\nx\r\n--b--\r\n',
        "multipart/form-data; boundary=b",
        415,
    ),
    "XML": (b"<notes>x</notes>", "application/xml", 415),
    "a content type of nonsense": (b'{"notes": "x"}', ";;;", 415),
    "70 KB": (b'{"notes": "' + b"x" * 70_000 + b'"}', JSON, 413),
    "70 KB of plain text": (b"x" * 70_000, "text/plain", 413),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_bad_body_is_refused_and_nothing_is_lost(panel: Flask, ann: FlaskClient, case: str):
    body, content_type, status = BAD_BODIES[case]
    filename = planted(panel, notes="kept")
    before = state_of(panel)
    for method, path in (("POST", COLLECTION), ("PATCH", f"{COLLECTION}/{filename}")):
        answer = ann.open(path, method=method, data=body, content_type=content_type)
        assert is_problem(answer, status)
    assert state_of(panel) == before
    assert ann.delete(f"{COLLECTION}/{filename}").status_code == 200


def test_notes_must_be_said_to_be_changed(panel: Flask, ann: FlaskClient):
    url = f"{COLLECTION}/{planted(panel, notes='kept')}"
    for answer in (ann.patch(url), ann.patch(url, json={})):
        assert is_problem(answer, 422)
    assert ann.get(f"{url}/details").get_json()["notes"] == "kept"


def test_what_was_wrong_is_told_by_name(ann: FlaskClient):
    answer = ann.post(COLLECTION, json={"notes": 5, "more": 1})
    detail = answer.get_json(force=True)["detail"]
    assert "notes: Not a valid string." in detail
    assert "more: Unknown field." in detail
