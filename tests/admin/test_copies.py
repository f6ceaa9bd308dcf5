"""Copies on the pages of backups and stores."""

from pathlib import Path

import pytest
from flask import Flask

from app.services.copies import service
from app.services.stores import service as stores
from tests.admin.test_backups import LIST, followed, seen, sent
from tests.api.test_restores import nothing_pending
from tests.cli.test_panel import wait_until
from tests.conftest import signed_in

__all__ = ["nothing_pending"]


@pytest.mark.usefixtures("worker")
def test_a_backup_is_copied_fetched_and_its_copy_removed(app: Flask, tmp_path: Path):
    client, folder = signed_in(app), tmp_path / "nas"
    folder.mkdir()
    name = client.post("/api/admin/backup").get_json()["backup"]["filename"]
    page = f"{LIST}/{name}"
    assert "A backup on the machine that burns is no backup." in seen(client, page).text
    with app.app_context():
        stores.add_store("nas", f"file://{folder}", by="ann")
    assert "This backup is in no store yet." in seen(client, page).text
    shown = followed(client, sent(client, f"{page}/copies", page, store="nas"))
    assert "The backup is being copied to nas." in shown.text
    with app.app_context():
        (copy,) = service.list_copies()
        service.wait_for_copy(copy.id, 60)
    shown = seen(client, page)
    assert "Read back" in shown.text
    assert not shown.all("form", action=f"/admin/copies/{copy.id}/fetch")
    assert name in seen(client, "/admin/stores/nas").text
    assert (
        "is being read back"
        in followed(client, sent(client, f"/admin/copies/{copy.id}/verify", page)).text
    )

    dump = app.extensions["backstop.settings"].backup_dir / name
    dump.unlink()
    shown = seen(client, page)
    assert "Fetch a copy below" in shown.text
    assert shown.all("form", action=f"/admin/copies/{copy.id}/fetch")
    fetched = followed(client, sent(client, f"/admin/copies/{copy.id}/fetch", page))
    assert "is being fetched" in fetched.text
    wait_until(dump.exists, "the dump is here again")
    assert not seen(client, page).all("form", action=f"/admin/copies/{copy.id}/fetch")

    asked = seen(client, f"/admin/copies/{copy.id}/remove")
    assert "The dump here stays." in asked.text
    removed = followed(client, sent(client, f"/admin/copies/{copy.id}/remove"))
    assert "The copy in nas has been removed." in removed.text
    assert not (folder / name).exists()
    seen(client, f"/admin/copies/{copy.id}/remove", 404)
