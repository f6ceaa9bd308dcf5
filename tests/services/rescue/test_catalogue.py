"""The catalogue back from an export: into nothing, whole, and of a version that we know."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app import create_app
from app.config import settings
from app.errors import ConfigurationError, Conflict, VerificationError
from app.extensions import db
from app.services.access.admins import list_admins
from app.services.audit.log import record_unattended, verify
from app.services.catalogue import files, portable
from app.services.catalogue.state import prepare_catalogue
from app.services.copies.mark import Measured, make_mark
from app.services.rescue import catalogue
from app.services.rescue.catalogue import Export, has_own_rows, restore_catalogue
from app.stores import Store, open_store
from tests.conftest import NO_SERVER, as_catalogue, on_catalogues, settings_in

NAME = "catalogue/lost/catalogue_2026-11-23T12-00-00-000Z.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """The catalogue of a panel that has nothing of its own."""
    changes = {}
    if request.param == "postgresql":
        changes["catalogue_url"] = as_catalogue(request.getfixturevalue("new_database")().url)
    with create_app(settings_in(tmp_path, NO_SERVER, **changes)).app_context():
        prepare_catalogue()
        yield
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def nas(tmp_path: Path) -> Store:
    (tmp_path / "nas").mkdir()
    return open_store(f"file://{tmp_path / 'nas'}")


def exported(store: Store, content: bytes) -> Export:
    """An export as somebody with the right to write may have made it."""
    measured = Measured(len(content), hashlib.sha256(content).hexdigest())
    store.put(NAME, [content])
    mark = make_mark(NAME, stored=measured, dump=measured, manifest=b"{}", to=())
    return Export(mark, is_signed=False)


def changed(template: Path, folder: Path, statement: str) -> bytes:
    path = folder / "changed.db"
    path.write_bytes(template.read_bytes())
    with closing(sqlite3.connect(path)) as catalogue:
        catalogue.execute(statement)
        catalogue.commit()
    return path.read_bytes()


def left() -> list[Path]:
    return list(settings().instance_dir.glob("catalogue.db.export-*"))


@pytest.mark.usefixtures("fresh")
def test_it_takes_the_place_of_one_without_rows(nas: Store, sqlite_template: Path):
    assert not has_own_rows()
    back = restore_catalogue(nas, exported(nas, sqlite_template.read_bytes()), (), print)
    assert (back.admins, back.schedules) == (1, 0)
    assert [admin.username for admin in list_admins()] == ["admin"]
    assert has_own_rows()
    with pytest.raises(Conflict, match="has rows of its own"):
        restore_catalogue(nas, exported(nas, sqlite_template.read_bytes()), (), print)
    assert left() == []


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_what_is_no_catalogue_is_refused(nas: Store, content: bytes):
    with pytest.raises(VerificationError, match="is no catalogue"):
        restore_catalogue(nas, exported(nas, content), (), print)
    assert not has_own_rows()


@pytest.mark.usefixtures("fresh")
def test_one_of_a_newer_backstop_is_refused(nas: Store, sqlite_template: Path, tmp_path: Path):
    newer = changed(sqlite_template, tmp_path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="of a newer Backstop"):
        restore_catalogue(nas, exported(nas, newer), (), print)
    assert not has_own_rows()


@pytest.mark.usefixtures("fresh")
def test_one_that_was_changed_since_its_mark_is_refused(nas: Store, sqlite_template: Path):
    export = exported(nas, sqlite_template.read_bytes())
    nas.put(NAME, [sqlite_template.read_bytes()[:-1] + b"x"])
    with pytest.raises(VerificationError, match="was changed"):
        restore_catalogue(nas, export, (), print)
    assert not has_own_rows()
    assert left() == []


@pytest.mark.usefixtures("fresh")
def test_one_that_is_killed_at_the_end_leaves_a_catalogue_to_begin_with(
    nas: Store, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    export = exported(nas, sqlite_template.read_bytes())
    with monkeypatch.context() as cut:
        cut.setattr(files.Path, "replace", killed)
        cut.setattr(portable, "_copy_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            restore_catalogue(nas, export, (), print)
    assert left() == []
    prepare_catalogue()
    assert not has_own_rows()
    assert restore_catalogue(nas, export, (), print).admins == 1


@pytest.mark.usefixtures("fresh")
def test_an_attempt_that_is_in_the_audit_makes_place_for_the_export(
    nas: Store, sqlite_template: Path
):
    record_unattended("recover", "ann", detail="the export was changed")
    assert not has_own_rows()
    assert restore_catalogue(nas, exported(nas, sqlite_template.read_bytes()), (), print).admins
    record_unattended("admin.create", "ann")
    assert verify()[0] == 1


@on_catalogues("own postgresql")
@pytest.mark.usefixtures("context")
def test_rows_that_come_before_the_lock_are_seen_under_it(
    nas: Store, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(catalogue, "has_own_rows", lambda: False)
    with pytest.raises(Conflict, match="has rows of its own"):
        restore_catalogue(nas, exported(nas, sqlite_template.read_bytes()), (), print)
    assert [admin.username for admin in list_admins()] == ["admin"]
