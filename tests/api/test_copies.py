"""Copies over the API."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.services.copies import service
from app.services.stores import service as stores
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
