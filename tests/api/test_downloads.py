"""Dumps over HTTP: whole, in ranges, and not at all."""

import base64
import hashlib
import itertools
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from app.extensions import db, writing
from app.models import DatabaseBackup, Status, Trigger
from app.models.backup import filename_of
from app.models.types import now
from tests.conftest import database_id

CONTENT = b"PGDMP" + bytes(range(256)) * 40
LENGTH = len(CONTENT)
DIGEST = hashlib.sha256(CONTENT)
ETAG = f'"{DIGEST.hexdigest()}"'

_milliseconds = itertools.count()


def planted(app: Flask, content: bytes = CONTENT, **values: Any) -> str:
    """A row and, for a completed backup, its dump; returns the filename."""
    moment = now() - timedelta(minutes=1) + timedelta(milliseconds=next(_milliseconds))
    row = DatabaseBackup(
        **{
            "filename": filename_of(moment),
            "created_at": moment,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "status": Status.COMPLETED,
            "server": "127.0.0.1:1",
            "database": "shop",
            "trigger": Trigger.CLI,
            "created_by": "ann",
            "started_at": moment,
            "finished_at": moment,
            "oldest_reader": 17,
            "compression": "zstd:1",
            "log": "pg_dump: reading schemas",
        }
        | values
    )
    filename = row.filename
    if row.is_completed:
        path = dump_of(app, filename)
        (path.parent / ".partial").mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with app.app_context():
        if "database_id" not in values:
            row.database_id = database_id(row.server, row.database)
        with writing() as session:
            session.add(row)
    return filename


def dump_of(app: Flask, filename: str) -> Path:
    """Where the dump of a backup lies."""
    return app.extensions["backstop.settings"].backup_dir / filename


def state_of(app: Flask) -> tuple[list[tuple[object, ...]], dict[str, object]]:
    """All rows and files of a panel, to see that nothing was lost or changed.

    But for what a web process notes by itself after a while: that notifiers were told.
    """
    with app.app_context():
        columns = [each for each in DatabaseBackup.__table__.c if each.name != "told_at"]
        query = select(*columns).order_by(DatabaseBackup.id)
        rows = [tuple(row) for row in db.session.execute(query)]
    folder = dump_of(app, "")
    files = {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in sorted(folder.rglob("*"))
    }
    return rows, files


@pytest.fixture(scope="module")
def url(panel: Flask) -> str:
    return f"/api/admin/backup/{planted(panel)}"


def fetched(client: FlaskClient, url: str, method: str = "GET", **headers: str) -> TestResponse:
    """The answer, read whole and closed; If_Range=… is the header If-Range."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.open(url, method=method, headers=named, buffered=True)


def is_problem(answer: TestResponse, status: int) -> bool:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    told = answer.get_json(force=True)
    assert told["success"] is False
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]
    assert "hint" in told
    return True


@pytest.mark.parametrize("page", ["/api/admin/backup/{}", "/admin/backup/{}/download"])
def test_a_whole_dump_comes_with_all_its_headers(panel: Flask, ann: FlaskClient, page: str):
    filename = planted(panel)
    answer = fetched(ann, page.format(filename))
    assert answer.status_code == 200
    assert answer.data == CONTENT
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{filename}"'
    assert answer.headers["Content-Length"] == str(LENGTH)
    assert answer.headers["ETag"] == ETAG
    digest = base64.b64encode(DIGEST.digest()).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("0-9", 0, 10),
        ("0-0", 0, 1),
        ("1000-4999", 1000, 5000),
        (f"{LENGTH - 1}-{LENGTH - 1}", LENGTH - 1, LENGTH),
        (f"0-{LENGTH - 1}", 0, LENGTH),
        ("0-", 0, LENGTH),
        (f"{LENGTH - 40}-", LENGTH - 40, LENGTH),
        (f"{LENGTH - 40}-{LENGTH * 9}", LENGTH - 40, LENGTH),
        ("-1", LENGTH - 1, LENGTH),
        ("-500", LENGTH - 500, LENGTH),
        (f"-{LENGTH}", 0, LENGTH),
        # A suffix longer than the file means the whole file (RFC 9110, 14.1.2).
        (f"-{LENGTH + 1}", 0, LENGTH),
    ],
)
def test_a_range_is_exactly_what_was_asked_for(
    ann: FlaskClient, url: str, asked: str, start: int, stop: int
):
    answer = fetched(ann, url, Range=f"bytes={asked}")
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{LENGTH}"
    assert answer.headers["Content-Length"] == str(stop - start)
    assert answer.headers["ETag"] == ETAG
    assert answer.data == CONTENT[start:stop]


@pytest.mark.parametrize(
    "asked", [f"{LENGTH}-", f"{LENGTH}-{LENGTH + 5}", f"{'9' * 30}-", f"{LENGTH * 2}-{LENGTH * 3}"]
)
def test_a_range_beyond_the_end_is_a_416_that_tells_the_length(
    ann: FlaskClient, url: str, asked: str
):
    answer = fetched(ann, url, Range=f"bytes={asked}")
    assert is_problem(answer, 416)
    assert answer.headers["Content-Range"] == f"bytes */{LENGTH}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6",
        "bytes=0-1,5-6,-3",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=1-x",
        "bytes=--5",
        "bytes=",
        "bytes",
        "0-1",
        "items=0-1",
        f"bytes=0-{'9' * 5000}",
        "bytes=0-1;5",
        "\xe9",
    ],
)
def test_several_ranges_and_nonsense_give_the_whole_dump(ann: FlaskClient, url: str, asked: str):
    answer = fetched(ann, url, Range=asked)
    assert answer.status_code == 200
    assert answer.data == CONTENT


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        (ETAG, 206),
        ('"another"', 200),
        ("Mon, 23 Nov 2026 12:59:30 GMT", 200),
        # If-Range compares strongly, a weak tag never fits (RFC 9110, 13.1.5).
        (f"W/{ETAG}", 200),
    ],
)
def test_if_range_gives_the_range_only_of_the_same_dump(
    ann: FlaskClient, url: str, if_range: str, status: int
):
    answer = fetched(ann, url, Range="bytes=5-9", If_Range=if_range)
    assert answer.status_code == status
    assert answer.data == (CONTENT[5:10] if status == 206 else CONTENT)


@pytest.mark.parametrize("tag", [ETAG, "*", f'"another", {ETAG}'])
def test_a_dump_that_is_known_already_is_not_sent_again(ann: FlaskClient, url: str, tag: str):
    answer = fetched(ann, url, If_None_Match=tag)
    assert answer.status_code == 304
    assert answer.data == b""
    assert answer.headers["ETag"] == ETAG


def test_another_tag_gets_the_dump(ann: FlaskClient, url: str):
    assert fetched(ann, url, If_None_Match='"another"').data == CONTENT


def test_if_none_match_comes_before_the_range(ann: FlaskClient, url: str):
    # RFC 9110, 13.2.2; the range alone would be a 416.
    answer = fetched(ann, url, If_None_Match=ETAG, Range=f"bytes={LENGTH}-")
    assert answer.status_code == 304


def test_head_tells_everything_but_the_dump(ann: FlaskClient, url: str):
    answer = fetched(ann, url, "HEAD")
    assert answer.status_code == 200
    assert answer.data == b""
    assert answer.headers["Content-Length"] == str(LENGTH)
    assert answer.headers["ETag"] == ETAG
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_head_knows_no_range(ann: FlaskClient, url: str):
    # It counts for GET alone (RFC 9110, 14.2).
    answer = fetched(ann, url, "HEAD", Range="bytes=0-9")
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(LENGTH)


def test_a_download_that_broke_off_is_resumed_to_the_very_same_file(ann: FlaskClient, url: str):
    first = fetched(ann, url, Range="bytes=0-3999")
    rest = fetched(ann, url, Range="bytes=4000-", If_Range=first.headers["ETag"])
    whole = first.data + rest.data
    assert whole == CONTENT
    digest = base64.b64encode(hashlib.sha256(whole).digest()).decode()
    assert rest.headers["Repr-Digest"] == f"sha-256=:{digest}:"


def test_no_answer_leaves_the_dump_open(panel: Flask, ann: FlaskClient, url: str):
    fetched(ann, url)
    fetched(ann, url, Range="bytes=1-2")
    fetched(ann, url, Range=f"bytes={LENGTH}-")
    fetched(ann, url, If_None_Match=ETAG)
    fetched(ann, url, "HEAD")
    open_files = [Path(file.path) for file in psutil.Process().open_files()]
    assert [path for path in open_files if path.is_relative_to(dump_of(panel, ""))] == []


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_a_backup_without_a_dump_is_a_conflict(panel: Flask, ann: FlaskClient, status: Status):
    filename = planted(panel, status=status, database=status.value)
    answer = fetched(ann, f"/api/admin/backup/{filename}")
    assert is_problem(answer, 409)
    assert status.value in answer.get_json(force=True)["title"]


def test_a_missing_dump_and_an_unknown_name_are_not_found(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    dump_of(panel, filename).unlink()
    assert is_problem(fetched(ann, f"/api/admin/backup/{filename}"), 404)
    unknown = "backup_2000-01-01T00-00-00-000Z.dump"
    assert is_problem(fetched(ann, f"/api/admin/backup/{unknown}"), 404)


@pytest.mark.parametrize("length", [0, LENGTH - 1, LENGTH + 1])
def test_a_dump_of_another_length_is_not_handed_out(panel: Flask, ann: FlaskClient, length: int):
    filename = planted(panel)
    os.truncate(dump_of(panel, filename), length)
    answer = fetched(ann, f"/api/admin/backup/{filename}")
    assert is_problem(answer, 502)
    assert answer.get_json(force=True)["hint"]


def plant_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def plant_link_of_the_same_length(path: Path) -> None:
    (path.parent.parent / "outside").write_bytes(CONTENT)
    path.symlink_to(path.parent.parent / "outside")


def plant_folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("still here")


def plant_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "plant", [plant_link, plant_link_of_the_same_length, plant_folder, plant_fifo]
)
def test_what_was_planted_under_a_dumps_name_is_not_handed_out(
    panel: Flask, ann: FlaskClient, plant: Any
):
    filename = planted(panel)
    dump_of(panel, filename).unlink()
    plant(dump_of(panel, filename))
    before = state_of(panel)
    answer = fetched(ann, f"/api/admin/backup/{filename}")
    assert is_problem(answer, 404)
    details = ann.get(f"/api/admin/backup/{filename}/details").get_json()
    assert details["fileExists"] is False
    assert state_of(panel) == before


def test_a_planted_link_is_deleted_and_not_what_it_points_to(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    dump_of(panel, filename).unlink()
    plant_link_of_the_same_length(dump_of(panel, filename))
    assert ann.delete(f"/api/admin/backup/{filename}").status_code == 200
    assert not dump_of(panel, filename).is_symlink()
    assert (dump_of(panel, "").parent / "outside").read_bytes() == CONTENT


def test_a_planted_folder_is_not_deleted(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    dump_of(panel, filename).unlink()
    plant_folder(dump_of(panel, filename))
    before = state_of(panel)
    assert is_problem(fetched(ann, f"/api/admin/backup/{filename}", "DELETE"), 502)
    assert state_of(panel) == before


HOSTILE_NAMES = [
    "..",
    "../..",
    "../../etc/passwd",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fsecret",
    "..%2f..%2fsecret",
    "..%5c..%5csecret",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "%252e%252e%252fsecret",
    "%00",
    "{}%00",
    "{}%00.txt",
    "%00{}",
    "{}.json",
    "{}%20",
    "%20{}",
    "{}%0a",
    ".partial",
    ".partial%2f{}",
    ".%2f{}",
    "%ff%fe",
    "x" * 300,
    "x" * 295 + ".dump",
    "*",
    "%25",
    "_" * 36,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_name_reaches_another_file(panel: Flask, ann: FlaskClient, url: str, name: str):
    folder = dump_of(panel, "")
    (folder.parent / "secret").write_text("never to be seen")
    filename = url.rpartition("/")[2]
    (folder / f"{filename}.json").write_text("never to be seen")
    before = state_of(panel)
    path = name.format(filename)
    for method, target in [
        ("GET", f"/api/admin/backup/{path}"),
        ("GET", f"/api/admin/backup/{path}/details"),
        ("PATCH", f"/api/admin/backup/{path}"),
        ("DELETE", f"/api/admin/backup/{path}"),
        ("GET", f"/admin/backup/{path}"),
        ("GET", f"/admin/backup/{path}/download"),
        ("GET", f"/admin/backup/{path}/delete"),
    ]:
        body = {"json": {"notes": "changed"}} if method == "PATCH" else {}
        answer = ann.open(target, method=method, buffered=True, **body)
        assert answer.status_code in (404, 308), (method, target, answer.status)
        assert "never to be seen" not in answer.text
        assert "root:" not in answer.text
    assert state_of(panel) == before
