"""A foreign dump over HTTP: announced, sent in parts, taken in."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.config import UPLOAD_PART
from app.postgres.conninfo import parse_url
from app.postgres.tools import Toolchain
from app.services.backups import service as backups
from app.services.backups import uploads
from tests.conftest import Database
from tests.postgres.conftest import make_dump

URL = "/api/admin/uploads"


@pytest.fixture
def raw(common_shop: Database, own_toolchain: Toolchain, tmp_path: Path) -> bytes:
    make_dump(own_toolchain, parse_url(common_shop.url), tmp_path / "theirs.dump")
    return (tmp_path / "theirs.dump").read_bytes()


def begin(client: FlaskClient, size: int) -> str:
    answer = client.post(URL, json={"name": "theirs.dump", "size": size})
    assert answer.status_code == 201, answer.json
    return answer.headers["Location"]


def send(client: FlaskClient, place: str, offset: object, part: bytes):
    return client.patch(place, data=part, headers={"Upload-Offset": str(offset)})


def test_a_dump_comes_in_parts_and_becomes_a_backup(admin: FlaskClient, app: Flask, raw: bytes):
    place = begin(admin, len(raw))
    half = len(raw) // 2
    first = send(admin, place, 0, raw[:half])
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, str(half))
    assert admin.post(f"{place}/import").status_code == 409  # not whole yet
    again = send(admin, place, 0, raw[:half])
    assert again.status_code == 409
    assert str(half) in again.json["title"]
    assert admin.head(place).headers["Upload-Offset"] == str(half)
    assert send(admin, place, half, raw[half:]).status_code == 204
    answer = admin.post(f"{place}/import")
    assert answer.status_code == 202, answer.json
    filename = answer.json["backup"]["filename"]
    with app.app_context():
        backups.run_backup.call_local(answer.json["backup"]["id"])
    told = admin.get(answer.headers["Location"]).json
    assert (told["status"], told["foreign"], told["size"]) == ("COMPLETED", True, len(raw))
    assert told["brings"]["owners"]
    assert admin.get(f"/api/admin/backup/{filename}", buffered=True).data == raw
    assert admin.get(place).status_code == 404
    page = admin.get(f"/admin/backup/{filename}").text
    assert "made elsewhere" in page


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"size": "1"},
        {"size": True},
        {"size": -1},
        {"size": 5},
        {"size": 2**40},
        {"size": 100, "name": "x" * 256},
        {"size": 100, "notes": "x" * 2001},
        {"size": 100, "other": 1},
    ],
)
def test_an_upload_that_cannot_be_is_refused(admin: FlaskClient, body: dict):
    answer = admin.post(URL, json=body)
    assert answer.status_code == 422
    assert answer.json["title"]


def test_what_is_no_dump_is_refused_with_its_first_part(admin: FlaskClient):
    place = begin(admin, 1000)
    answer = send(admin, place, 0, b"--\n-- PostgreSQL database dump\n")
    assert answer.status_code == 422
    assert "pg_dump -F c" in answer.json["hint"]
    assert admin.get(place).status_code == 404


def test_parts_that_cannot_be_are_refused(admin: FlaskClient):
    place = begin(admin, 1000)
    for offset in ("", "-1", "x", "9" * 30):
        assert send(admin, place, offset, b"PGDMP").status_code == 422
    assert send(admin, place, 7, b"PGDMP").status_code == 409
    assert send(admin, place, 0, b"PGDMP" * 1000).status_code == 422
    assert send(admin, place, 0, bytes(UPLOAD_PART + 1)).status_code == 413
    assert admin.get(place).json["upload"]["received"] == 0
    for other in ("nobody", "..%2f..%2fetc", "A" * 40):
        assert send(admin, f"{URL}/{other}", 0, b"PGDMP").status_code == 404
    assert admin.delete(place).status_code == 200
    assert admin.delete(place).status_code == 404


def test_there_are_only_so_many_uploads_at_once(admin: FlaskClient):
    for _ in range(uploads.MOST):
        begin(admin, 1000)
    assert admin.post(URL, json={"size": 1000}).status_code == 409


def test_nobody_uploads_without_being_signed_in(visitor: FlaskClient):
    assert visitor.post(URL, json={"size": 1000}).status_code == 401
    assert visitor.patch(f"{URL}/x", data=b"PGDMP").status_code == 401
