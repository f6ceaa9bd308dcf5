"""flask recover: everything is deleted but the store, and comes back."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from app import create_app
from app.encryption import Identity, make_identity
from app.extensions import db
from app.models import TakesCatalogue, Trigger
from app.services.access import admins
from app.services.backups import service as backups
from app.services.backups.listing import get_backup, list_backups
from app.services.copies import queue
from app.services.copies import service as copies
from app.services.copies.mark import mark_key
from app.services.rescue.exports import export_catalogue
from app.services.schedules.service import list_schedules
from app.services.stores import service as stores
from app.services.stores.lookup import get_store, list_stores
from app.services.stores.ownership import MARKER, panel_id
from app.services.stores.service import Changes
from tests.conftest import PASSWORD, Database, as_catalogue, settings_in
from tests.stores.conftest import localbucket, prefix
from tests.stores.servers import Place
from tests.test_auditing import entries

__all__ = ["localbucket", "prefix"]

Panel = Callable[..., Flask]


@pytest.fixture
def panel(tmp_path: Path, shop_url: str, sqlite_template: Path) -> Iterator[Panel]:
    """Make panels, each with a folder of its own; only the lost one has something in it."""
    made: list[Flask] = []

    def make(name: str, **changes: object) -> Flask:
        (tmp_path / name).mkdir(exist_ok=True)
        settings = settings_in(tmp_path / name, shop_url, **changes)
        if name == "lost":
            shutil.copy(sqlite_template, settings.instance_dir / "catalogue.db")
        app = create_app(settings)
        made.append(app)
        return app

    yield make
    for app in made:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    folder.mkdir()
    return folder


def flask(app: Flask, *words: str, answers: str = "") -> Result:
    return app.test_cli_runner().invoke(args=list(words), input=answers)


def recover(app: Flask, place: Path | str, *words: str, answers: str = "") -> Result:
    url = f"file://{place}" if isinstance(place, Path) else place
    return flask(app, "recover", "--from", url, *words, answers=answers)


def lose(app: Flask, folder: Path, url: str, changes: Changes, *, exported: bool = True) -> str:
    """A panel with an admin, a schedule and a copied backup; then all of it is gone."""
    with app.app_context():
        stores.add_store("nas", url, changes, by="ann")
        made = backups.create_backup(trigger=Trigger.CLI, created_by="ann", notes="the last one")
        assert made.is_completed, made.error_message
        filename = made.filename
        queue.copy_what_is_due()
        (copy,) = copies.list_copies()
        queue.run_copy.call_local(copy.id)
        assert copies.get_copy(copy.id).is_good
    created = flask(app, "schedule", "create", "nightly", "--task", "backup", "--cron", "0 2 * * *")
    assert created.exit_code == 0, created.output
    with app.app_context():
        if exported:
            export_catalogue("nas", by="ann")
        db.session.remove()
        db.engine.dispose()
    shutil.rmtree(folder)
    return filename


def identity_in(folder: Path) -> tuple[Identity, Path]:
    identity, file = make_identity(), folder / "key.txt"
    file.write_text(identity.secret)
    return identity, file


def restored_names(shop: Database) -> list[str]:
    found = shop.run("SELECT datname FROM pg_database WHERE datname ~ %s", f"^{shop.name}_restored")
    return [name for (name,) in found]


def insist_that_rows_are_back(shop: Database) -> None:
    (name,) = restored_names(shop)
    copy = Database(name, shop.url.replace(f"/{shop.name}?", f"/{name}?"))
    assert copy.run("SELECT count(*), sum(total)::int FROM orders") == [(500, 187875)]
    shop.run(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.timeout(400)
def test_all_comes_back_from_an_encrypted_store(
    panel: Panel, shop: Database, tmp_path: Path, localbucket: Place, prefix: str
):
    identity, key = identity_in(tmp_path)
    given = {"credentials": localbucket.credentials, "recipients": (identity.recipient.key,)}
    url = localbucket.url(prefix)
    filename = lose(panel("lost"), tmp_path / "lost", url, Changes(**given))
    secrets = tmp_path / "credentials"
    secrets.write_text("".join(f"{k}={v}\n" for k, v in localbucket.credentials.items()))
    new = panel("new")
    words = ("--credentials-from", str(secrets), "--identity", str(key))
    back = recover(new, url, *words, "--restore", answers="y\ny\n")
    assert back.exit_code == 0, back.output
    assert "has 1 copy" in back.stdout
    assert "1 of them encrypted, and 1 exports of a catalogue" in back.stdout
    assert "1 admins, 1 schedules, " in back.stdout
    assert "The store is here as nas; new copies: 0" in back.stdout
    insist_that_rows_are_back(shop)
    with new.app_context():
        assert [admin.username for admin in admins.list_admins()] == ["admin"]
        assert admins.has_password(admins.list_admins()[0], PASSWORD)
        assert [row.name for row in list_schedules()] == ["nightly"]
        again = get_backup(filename)
        assert (again.notes, again.foreign, again.is_completed) == ("the last one", False, True)
        assert get_store("nas").recipients == [identity.recipient.key]
    acts = [(entry["action"], entry["outcome"]) for entry in entries(new)]
    assert ("schedule.create", "done") in acts
    assert acts[-1] == ("recover", "done")


@pytest.mark.timeout(400)
def test_all_comes_back_from_an_open_store_that_takes_the_catalogue(
    panel: Panel, shop: Database, tmp_path: Path, nas: Path
):
    changes = Changes(takes_catalogue=TakesCatalogue.ALWAYS)
    filename = lose(panel("lost"), tmp_path / "lost", f"file://{nas}", changes)
    new = panel("new")
    back = recover(new, nas, "--restore", "--yes")
    assert back.exit_code == 0, back.output
    insist_that_rows_are_back(shop)
    with new.app_context():
        assert get_backup(filename).notes == "the last one"
        assert len(list_schedules()) == 1
    refused = recover(new, nas, "--yes", "--catalogue")
    assert (refused.exit_code, "has rows of its own" in refused.stderr) == (1, True)
    again = recover(new, nas, "--yes")
    assert again.exit_code == 0, again.output
    assert "This panel has rows of its own" in again.stdout
    assert "new copies: 0" in again.stdout


@pytest.mark.timeout(400)
@pytest.mark.timeout(400)
def test_a_catalogue_is_recovered_to_postgresql(
    panel: Panel, tmp_path: Path, nas: Path, new_database: Callable[..., Database]
):
    changes = Changes(takes_catalogue=TakesCatalogue.ALWAYS)
    filename = lose(panel("lost"), tmp_path / "lost", f"file://{nas}", changes)
    new = panel("new", catalogue_url=as_catalogue(new_database().url))
    back = recover(new, nas, "--yes")
    assert back.exit_code == 0, back.output
    with new.app_context():
        assert get_backup(filename).notes == "the last one"
        assert len(list_schedules()) == 1
    assert entries(new)[-1]["action"] == "recover"


def test_without_the_secret_key_copies_are_foreign_until_they_are_trusted(
    panel: Panel, shop: Database, tmp_path: Path, nas: Path
):
    filename = lose(panel("lost"), tmp_path / "lost", f"file://{nas}", Changes(), exported=False)
    new = panel("new", secret_key="another one that is long enough")
    declined = recover(new, nas, answers="n\n")
    assert (declined.exit_code, "Take the store over" in declined.stdout) == (1, True)
    with new.app_context():
        assert list_stores() == []
    back = recover(new, nas, "--name", "old", answers="y\n")
    assert back.exit_code == 0, back.output
    assert f"{shop.name} on" in back.stdout
    assert "1 copies are not signed with the SECRET_KEY of this panel" in back.stdout
    assert f"  flask copy fetch {filename}\n  flask backup restore {filename}" in back.stdout
    assert "There is no admin yet" in back.stdout
    with new.app_context():
        assert list_backups().backups == []
        assert json.loads((nas / MARKER).read_text())["panel"] == panel_id()
    assert flask(new, "copy", "fetch", filename).exit_code == 0
    with new.app_context():
        assert get_backup(filename).foreign
    assert flask(new, "backup", "trust", filename, "--yes").exit_code == 0
    with new.app_context():
        (backup,) = list_backups().backups
        assert (backup.filename, backup.foreign) == (filename, False)
        (copy,) = copies.list_copies()
        assert (copy.backup_id, copy.is_good) == (backup.id, True)


@pytest.mark.timeout(400)
def test_an_unsigned_catalogue_and_an_encrypted_one_are_not_restored_by_the_way(
    panel: Panel, tmp_path: Path, nas: Path
):
    identity, key = identity_in(tmp_path)
    changes = Changes(recipients=(identity.recipient.key,))
    lose(panel("lost"), tmp_path / "lost", f"file://{nas}", changes)
    new = panel("new", secret_key="another one that is long enough")
    blind = recover(new, nas, "--yes")
    assert (blind.exit_code, "contents not known: 1" in blind.stdout) == (1, True)
    assert "the exported catalogue is encrypted, and no private key fits" in blind.stderr
    unsigned = recover(new, nas, "--yes", "--identity", str(key))
    assert unsigned.exit_code == 1
    assert "the exported catalogue is not signed with this SECRET_KEY" in unsigned.stderr
    with new.app_context():
        assert (admins.list_admins(), list_stores()) == ([], [])
    back = recover(new, nas, "--yes", "--no-catalogue")
    assert back.exit_code == 0, back.output
    assert "It is paused, since its copies are encrypted" in back.stdout
    with new.app_context():
        (store,) = list_stores()
        assert (store.name, store.is_paused, store.recipients) == ("recovered", True, [])
    other = panel("other", secret_key="another one that is long enough")
    back = recover(other, nas, "--yes", "--catalogue", "--identity", str(key))
    assert back.exit_code == 0, back.output
    assert "Enter all secrets again" in back.stdout
    with other.app_context():
        assert [admin.username for admin in admins.list_admins()] == ["admin"]


@pytest.mark.timeout(400)
def test_the_newest_whole_export_and_the_newest_good_copy_are_taken(
    panel: Panel, shop: Database, tmp_path: Path, nas: Path
):
    changes = Changes(takes_catalogue=TakesCatalogue.ALWAYS)
    lost = panel("lost")
    with lost.app_context():
        stores.add_store("nas", f"file://{nas}", changes, by="ann")
        names = [backups.create_backup(trigger=Trigger.CLI).filename for _ in range(2)]
        export_catalogue("nas", by="ann")
        damaged = export_catalogue("nas", by="ann")
        queue.copy_what_is_due()
        for copy in copies.list_copies():
            queue.run_copy.call_local(copy.id)
    for path in (nas / damaged.key, nas / names[1]):
        spoiled = bytearray(path.read_bytes())
        spoiled[len(spoiled) // 2] ^= 1
        path.write_bytes(spoiled)
    lie(nas / mark_key(names[0]).replace("backup", "hostile"))
    with lost.app_context():
        db.session.remove()
        db.engine.dispose()
    shutil.rmtree(tmp_path / "lost")
    new = panel("new")
    back = recover(new, nas, "--restore", "--yes")
    assert back.exit_code == 0, back.output
    assert f"The export {damaged.filename} cannot be used" in back.stderr
    assert "1 more marks cannot be used" in back.stdout
    assert "new copies: 2" in back.stdout
    assert f"{names[1]} cannot be used" in back.stderr
    assert f"{names[0]} is here." in back.stdout
    insist_that_rows_are_back(shop)


def lie(path: Path) -> None:
    path.write_text(json.dumps({"filename": "../../etc/passwd", "key": "\x1b[2J"}))


def test_an_empty_store_and_a_wrong_one_are_named(panel: Panel, tmp_path: Path, nas: Path):
    new = panel("new")
    empty = recover(new, nas)
    assert (empty.exit_code, "no copy of a backup lies in the store" in empty.stderr) == (1, True)
    away = recover(new, tmp_path / "away")
    assert (away.exit_code, "the store's folder is not there" in away.stderr) == (1, True)
    wrong = recover(new, "s3://AKIA:secret@bucket")
    assert (wrong.exit_code, "contains credentials" in wrong.stderr) == (1, True)
    assert "secret@" not in wrong.output
