"""Copies over the API."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.encryption import decrypted, make_identity
from app.errors import VerificationError
from app.models import Trigger
from app.services.backups import service as backups
from app.services.copies import queue, service
from app.services.stores import service as stores
from tests.api.test_downloads import dump_of, fetched
from tests.api.test_restores import nothing_pending
from tests.cli.test_panel import wait_until
from tests.conftest import signed_in

__all__ = ["nothing_pending"]

URL = "/api/admin/copies"


@pytest.fixture
def client(app: Flask, tmp_path: Path) -> FlaskClient:
    folder = tmp_path / "nas"
    folder.mkdir()
    with app.app_context():
        stores.add_store("nas", f"file://{folder}", by="ann")
    return signed_in(app)


@pytest.mark.usefixtures("worker")
def test_a_backup_is_copied_listed_verified_and_fetched(
    app: Flask, client: FlaskClient, tmp_path: Path
):
    name = client.post("/api/admin/backup").get_json()["backup"]["filename"]
    answer = client.post(f"/api/admin/backup/{name}/copies", json={"store": "nas"})
    copy = answer.get_json()["copy"]
    assert (answer.status_code, copy["store"]) == (202, "nas")
    assert answer.headers["Location"] == f"{URL}/{copy['id']}"
    with app.app_context():
        service.wait_for_copy(copy["id"], 60)
    shown = client.get(f"{URL}/{copy['id']}").get_json()
    assert (shown["status"], shown["error"], shown["progress"]) == ("COMPLETED", None, None)
    assert shown["size"] == (tmp_path / "nas" / name).stat().st_size
    assert client.get(URL, query_string={"store": "nas"}).get_json()["copies"] == [shown]
    assert client.get(URL, query_string={"filename": "x"}).get_json()["copies"] == []
    assert client.post(f"/api/admin/backup/{name}/copies", json={"store": "nas"}).status_code == 409

    assert client.post(f"{URL}/{copy['id']}/verify").status_code == 202
    assert client.post(f"{URL}/{copy['id']}/fetch").status_code == 409  # it is here
    (app.extensions["backstop.settings"].backup_dir / name).unlink()
    assert client.post(f"{URL}/{copy['id']}/fetch").status_code == 202
    dump = app.extensions["backstop.settings"].backup_dir / name
    wait_until(dump.exists, "the dump is here again")
    assert client.post(f"{URL}/{copy['id']}/cancel").status_code == 409
    assert client.delete(f"{URL}/{copy['id']}").status_code == 200
    assert client.get(f"{URL}/{copy['id']}").status_code == 404
    assert not (tmp_path / "nas" / name).exists()


def test_what_is_wrong_is_told(client: FlaskClient):
    assert client.get(URL, query_string={"store": "none"}).status_code == 404
    assert client.get(URL, query_string={"limit": "0"}).status_code == 422
    assert client.post("/api/admin/backup/x.dump/copies", json={"store": "nas"}).status_code == 404
    assert client.post("/api/admin/backup/x.dump/copies", json={}).status_code == 422
    for path in ("cancel", "verify", "fetch"):
        assert client.post(f"{URL}/nothing/{path}").status_code == 404
    assert client.delete(f"{URL}/nothing").status_code == 404


def copied(app: Flask) -> tuple[str, str]:
    """The name of a new backup, and the id of its copy."""
    with app.app_context():
        backup = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
        copy = service.copy_backup(backup.filename, "nas", trigger=Trigger.CLI, by="ann")
        queue.run_copy.call_local(copy.id)
        service.wait_for_copy(copy.id, 60)  # the worker may have been quicker
        return backup.filename, copy.id


@pytest.mark.parametrize("page", ["/admin", "/api/admin"])
def test_a_copy_is_downloaded_whole_and_in_ranges(app: Flask, client: FlaskClient, page: str):
    name, copy_id = copied(app)
    dump = dump_of(app, name)
    whole, url = dump.read_bytes(), f"{page}/copies/{copy_id}/download"
    answer = fetched(client, url)
    assert (answer.status_code, answer.data) == (200, whole)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["Content-Length"] == str(len(whole))
    part = fetched(client, url, Range="bytes=5-1004")
    assert (part.status_code, part.data) == (206, whole[5:1005])
    assert part.headers["Content-Range"] == f"bytes 5-1004/{len(whole)}"
    assert fetched(client, url, Range="bytes=-7").data == whole[-7:]
    assert fetched(client, url, Range=f"bytes={len(whole)}-").status_code == 416
    assert fetched(client, url, If_None_Match=answer.headers["ETag"]).status_code == 304
    assert fetched(client, url, "HEAD").headers["Content-Length"] == str(len(whole))

    dump.unlink()
    own = f"/api/admin/backup/{name}" if page == "/api/admin" else f"/admin/backup/{name}/download"
    assert fetched(client, own).data == whole
    assert fetched(client, own, Range="bytes=5-1004").data == whole[5:1005]


def test_an_encrypted_copy_is_downloaded_as_it_is(app: Flask, client: FlaskClient):
    identity = make_identity()
    recipients = [identity.recipient.key]
    client.patch("/api/admin/stores/nas", json={"recipients": recipients})
    name, copy_id = copied(app)
    answer = fetched(client, f"{URL}/{copy_id}/download")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}.age"'
    dump = dump_of(app, name)
    assert b"".join(decrypted([answer.data], [identity])) == dump.read_bytes()
    dump.unlink()
    assert fetched(client, f"/api/admin/backup/{name}").status_code == 404


def test_a_damaged_copy_is_never_a_whole_download(app: Flask, client: FlaskClient, tmp_path: Path):
    name, copy_id = copied(app)
    stored = tmp_path / "nas" / name
    content = stored.read_bytes()
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(VerificationError, match="was changed"):  # cuts the connection
        fetched(client, f"{URL}/{copy_id}/download")
    stored.unlink()
    assert fetched(client, f"{URL}/{copy_id}/download").status_code == 404
    (tmp_path / "nas" / f"{name}.json").unlink()
    assert fetched(client, f"{URL}/{copy_id}/download").status_code == 404
    assert fetched(client, f"{URL}/none/download").status_code == 404


def test_downloads_from_stores_never_keep_all_threads_busy(app: Flask, client: FlaskClient):
    _, copy_id = copied(app)
    url = f"{URL}/{copy_id}/download"
    first, second = client.get(url), client.get(url)  # not read yet
    refused = client.get(url)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
    first.close()
    assert fetched(client, url).status_code == 200
    second.close()
    assert client.get(url, headers={"Range": "bytes=999999999999-"}).status_code == 416
    for _ in range(3):
        assert fetched(client, url).status_code == 200


@pytest.mark.usefixtures("worker")
def test_with_a_drill_key_an_encrypted_copy_is_fetched(app: Flask, client: FlaskClient):
    store = "/api/admin/stores/nas"
    assert client.post(f"{store}/drill-key").status_code == 409  # it would be the only key
    recipients = [make_identity().recipient.key]
    client.patch(store, json={"recipients": recipients})
    name, copy_id = copied(app)
    dump_of(app, name).unlink()
    assert client.post(f"{URL}/{copy_id}/fetch").status_code == 422
    made = client.post(f"{store}/drill-key").get_json()["store"]
    assert (made["hasDrillKey"], len(made["recipients"])) == (True, 2)
    assert client.post(f"{store}/drill-key").status_code == 409
    name, copy_id = copied(app)
    dump = dump_of(app, name)
    whole = dump.read_bytes()
    dump.unlink()
    assert client.post(f"{URL}/{copy_id}/fetch").status_code == 202
    wait_until(dump.exists, "the dump is here again")
    assert dump.read_bytes() == whole
    forgotten = client.delete(f"{store}/drill-key").get_json()["store"]
    assert (forgotten["hasDrillKey"], forgotten["recipients"]) == (False, recipients)
    assert client.delete(f"{store}/drill-key").status_code == 409
