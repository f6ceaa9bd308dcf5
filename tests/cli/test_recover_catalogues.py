"""flask recover: a catalogue comes back from SQLite and PostgreSQL, and to either."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from app import create_app
from app.extensions import db
from app.models import TakesCatalogue
from app.sealing import unseal
from app.services.databases.lookup import get_database
from app.services.rescue.exports import export_catalogue
from app.services.stores import service as stores
from app.services.stores.service import Changes
from tests.conftest import NO_SERVER, Database, as_catalogue, settings_in
from tests.services.catalogue.portable_rows import Rows, all_rows, fill

KINDS = ["sqlite", "postgresql"]
CANARY = "canary-secret"

Panel = Callable[[str, str], Flask]


@pytest.fixture
def panel(
    tmp_path: Path,
    sqlite_template: Path,
    postgresql_template: str,
    new_database: Callable[..., Database],
) -> Iterator[Panel]:
    """Make panels by name and kind of catalogue; only the lost one has something in it."""
    made: list[Flask] = []

    def make(name: str, kind: str) -> Flask:
        (tmp_path / name).mkdir()
        is_lost = name == "lost"
        changes = {}
        if kind == "postgresql":
            template = postgresql_template if is_lost else "template0"
            changes["catalogue_url"] = as_catalogue(new_database(template=template).url)
        settings = settings_in(tmp_path / name, NO_SERVER, **changes)
        if kind == "sqlite" and is_lost:
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


def lose(app: Flask, nas: Path) -> Rows:
    """A panel with rows in every table, which are returned as they are exported."""
    for name in ("crm", "wiki"):
        url = f"postgresql://u:{CANARY}@127.0.0.1:1/{name}"
        added = flask(app, "database", "add", name, "-", answers=url)
        assert added.exit_code == 0, added.output
    with app.app_context():
        changes = Changes(takes_catalogue=TakesCatalogue.ALWAYS)
        stores.add_store("nas", f"file://{nas}", changes, by="ann")
        fill()
        rows = all_rows()
        mark = export_catalogue("nas", by="ann")
        assert CANARY.encode() not in (nas / mark.key).read_bytes()
        db.session.remove()
        db.engine.dispose()
    return rows


@pytest.mark.parametrize("onto", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_comes_back_whatever_keeps_the_catalogue(
    panel: Panel, nas: Path, kind: str, onto: str
):
    rows = lose(panel("lost", kind), nas)
    assert all(rows.values())
    new = panel("new", onto)
    back = flask(new, "recover", "--from", f"file://{nas}", "--yes")
    assert back.exit_code == 0, back.output
    assert f"1 admins, {len(rows['schedules'])} schedules, 2 entries" in back.stdout
    with new.app_context():
        again = all_rows()
        crm = get_database("crm")
        assert CANARY not in crm.url
        assert unseal(crm.url).endswith("/crm")
    entries = len(rows["audit_entries"])
    assert again.pop("audit_entries")[:entries] == rows.pop("audit_entries")
    assert again == rows
    verified = flask(new, "audit", "verify")
    assert verified.exit_code == 0, verified.output
    refused = flask(new, "recover", "--from", f"file://{nas}", "--yes", "--catalogue")
    assert (refused.exit_code, "has rows of its own" in refused.stderr) == (1, True)
