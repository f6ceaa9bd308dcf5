"""Dumps of strangers whose names are made to break pages, or to run in a browser."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.models import Kind, Trigger
from app.services.restores import service as restores
from app.services.restores.request import RestoreRequest
from app.services.restores.source import get_source
from tests.attacks.archives import TABLE, Piece, archive
from tests.postgres.conftest import wait_until

UPLOADS = "/api/admin/uploads"
HOSTILE = b"\xff\xfe\xed\xa0\x80<script>alert(1)</script>"
STEERING = "t\n\x1b[31m\u202e<script>alert(1)</script>"

PAGES = [
    "/admin/backup",
    "/admin/backup/{0}",
    "/admin/backup/{0}/restore",
    "/admin/backup/{0}/restore?tables=public.t",
    "/admin/backup/{0}/contents",
    "/admin/backup/{0}/contents?q=%ff",
    "/admin/backup/{0}/delete",
    "/api/admin/backup",
    "/api/admin/backup/{0}/details",
    "/api/admin/backup/{0}/contents",
    *(f"/api/admin/backup/{{0}}/restores/preview?mode={kind}" for kind in ("beside", "drill")),
]


def piece(number: int, kind: str, name: str | bytes, text: str = "x", **more: object) -> Piece:
    return Piece(number, kind, name, text, **more)  # type: ignore[arg-type]


ARCHIVES = {
    "schema": archive(piece(13, "TABLE", "t", schema=HOSTILE)),
    "table": archive(piece(13, "TABLE", STEERING)),
    "kind": archive(piece(13, HOSTILE, HOSTILE)),  # type: ignore[arg-type]
    "publication": archive(TABLE, piece(20, "PUBLICATION", HOSTILE)),
    "extension": archive(TABLE, piece(20, "EXTENSION", HOSTILE)),
    "function": archive(TABLE, piece(20, "FUNCTION", HOSTILE)),
    "owner": archive(TABLE, piece(20, "SCHEMA", "s", owner=HOSTILE)),
    "nul": archive(TABLE, piece(20, "SCHEMA", "s", owner=b"a\0b")),
    "number": archive(TABLE, piece(-5, "COMMENT", "c")),
    "loop": archive(piece(13, "TABLE", "t", needs=(14,)), piece(14, "TABLE", "u", needs=(13,))),
    "database": archive(TABLE, database=HOSTILE),  # type: ignore[arg-type]
    "nothing": archive(),
}


def imported(client: FlaskClient, blob: bytes, name: str) -> str:
    """Taken in to its end, or refused; the name of its backup."""
    place = client.post(UPLOADS, json={"name": name, "size": len(blob)}).headers["Location"]
    client.patch(place, data=blob, headers={"Upload-Offset": "0"})
    answer = client.post(f"{place}/import")
    assert answer.status_code in (202, 422), answer.text
    if answer.status_code == 422:
        return ""
    filename = str(answer.json["backup"]["filename"])
    details = f"/api/admin/backup/{filename}/details"
    wait_until(lambda: client.get(details).json["status"] != "PENDING", "the import")
    return filename


def broken(client: FlaskClient, urls: list[str]) -> list[str]:
    """What is a defect, or would run in a browser."""
    found = []
    for url in urls:
        answer = client.get(url)
        if answer.status_code >= 500:
            found.append(f"{answer.status_code} {url}")
        if "html" in answer.content_type and "<script>alert" in answer.text:
            found.append(f"script in {url}")
    return found


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", ARCHIVES)
def test_no_name_in_a_dump_breaks_a_page(admin: FlaskClient, name: str):
    filename = imported(admin, ARCHIVES[name], f"<script>alert(1)</script>{name}")
    assert filename or name == "nothing"
    assert broken(admin, [each.format(filename) for each in PAGES]) == []


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", ["publication", "extension", "owner", "nul"])
def test_no_name_in_a_drill_s_result_breaks_a_page(app: Flask, admin: FlaskClient, name: str):
    filename = imported(admin, ARCHIVES[name], name)
    with app.app_context():
        row = restores.create_restore(
            RestoreRequest(get_source(filename), Kind.DRILL, trigger=Trigger.CLI)
        )
        drill, message = row.id, row.error_message
    assert "interrupted" not in message  # as a defect of ours would have it
    assert broken(admin, [f"/admin/restores/{drill}", f"/api/admin/restores/{drill}"]) == []
    assert broken(admin, ["/admin/restores", f"/admin/backup/{filename}"]) == []


def test_a_name_as_long_as_a_file_is_not_read(admin: FlaskClient):
    assert imported(admin, archive(TABLE, database="x" * 2_000_000), "theirs") == ""
