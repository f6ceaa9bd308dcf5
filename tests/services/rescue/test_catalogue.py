"""The catalogue back from an export: into nothing, whole, and of a version that we know."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, delete, insert, select
from sqlalchemy.exc import DatabaseError

from app import create_app
from app.config import settings
from app.errors import ConfigurationError, Conflict, VerificationError
from app.extensions import Model, db, writing
from app.models import AuditEntry
from app.services.access.admins import create_admin, list_admins
from app.services.catalogue import files, portable
from app.services.catalogue.files import find_file
from app.services.catalogue.portable import snapshot_of_rows
from app.services.catalogue.state import prepare_catalogue, prepare_file
from app.services.copies.mark import Measured, make_mark
from app.services.databases.lookup import default_database
from app.services.rescue import catalogue
from app.services.rescue.catalogue import Export, has_own_rows, restore_catalogue
from app.stores import Store, open_store
from tests.conftest import NO_SERVER, PASSWORD, Database, as_catalogue, settings_in
from tests.migrations.planting import plant

NAME = "catalogue/lost/catalogue_2026-11-23T12-00-00-000Z.db"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """The catalogue of a panel that has nothing of its own."""
    with create_app(settings_in(tmp_path, NO_SERVER)).app_context():
        prepare_catalogue()
        path = find_file()
        assert path is not None
        yield path
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


def beside(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.glob("catalogue.db*") if found != path)


def test_it_takes_the_place_of_one_without_rows(fresh: Path, nas: Store, sqlite_template: Path):
    assert not has_own_rows()
    back = restore_catalogue(nas, exported(nas, sqlite_template.read_bytes()), (), print)
    assert (back.admins, back.schedules) == (1, 0)
    assert [admin.username for admin in list_admins()] == ["admin"]
    assert has_own_rows()
    with pytest.raises(Conflict, match="has rows of its own"):
        restore_catalogue(nas, exported(nas, sqlite_template.read_bytes()), (), print)
    assert [name for name in beside(fresh) if "recovered" in name] == []


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_what_is_no_catalogue_is_refused(fresh: Path, nas: Store, content: bytes):
    with pytest.raises(VerificationError, match="is no catalogue"):
        restore_catalogue(nas, exported(nas, content), (), print)
    assert not has_own_rows()


def test_one_of_a_newer_backstop_is_refused(
    fresh: Path, nas: Store, sqlite_template: Path, tmp_path: Path
):
    newer = changed(sqlite_template, tmp_path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="of a newer Backstop"):
        restore_catalogue(nas, exported(nas, newer), (), print)
    assert not has_own_rows()


def test_one_that_was_changed_since_its_mark_is_refused(
    fresh: Path, nas: Store, sqlite_template: Path
):
    export = exported(nas, sqlite_template.read_bytes())
    nas.put(NAME, [sqlite_template.read_bytes()[:-1] + b"x"])
    with pytest.raises(VerificationError, match="was changed"):
        restore_catalogue(nas, export, (), print)
    assert not has_own_rows()
    assert [name for name in beside(fresh) if "recovered" in name] == []


def test_one_that_is_killed_before_the_rename_leaves_a_catalogue_to_begin_with(
    fresh: Path, nas: Store, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    export = exported(nas, sqlite_template.read_bytes())
    with monkeypatch.context() as cut:
        cut.setattr(files.Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            restore_catalogue(nas, export, (), print)
    prepare_catalogue()
    assert not has_own_rows()
    assert restore_catalogue(nas, export, (), print).admins == 1


# From PostgreSQL, and to it


@pytest.fixture
def panel_on(tmp_path: Path, new_database: Callable[..., Database]) -> Callable[..., Any]:
    """The context of a panel that has nothing yet, its catalogue of this kind."""

    @contextmanager
    def made(name: str, kind: str) -> Iterator[None]:
        (tmp_path / name).mkdir()
        url = {"catalogue_url": as_catalogue(new_database().url)} if kind == "postgresql" else {}
        with create_app(settings_in(tmp_path / name, NO_SERVER, **url)).app_context():
            prepare_catalogue()
            yield
            db.session.remove()
            db.engine.dispose()

    return made


def typed_rows() -> dict[str, list[tuple[object, ...]]]:
    with db.engine.connect() as connection:
        return {
            name: sorted(map(tuple, connection.execute(select(table))), key=str)
            for name, table in Model.metadata.tables.items()
        }


def plant_all() -> None:
    with db.engine.begin() as connection:
        plant(connection)


def content_of_export() -> bytes:
    path = find_file()
    with files.snapshot(path) if path is not None else snapshot_of_rows() as file:
        return file.read()


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
def test_every_row_moves_from_each_kind_to_each_kind(
    panel_on: Callable[..., Any], nas: Store, source: str, target: str
):
    with panel_on("lost", source):
        plant_all()
        before, content = typed_rows(), content_of_export()
    assert all(before.values())
    with panel_on("fresh", target):
        default_database()  # a row that is there by itself
        restore_catalogue(nas, exported(nas, content), (), print)
        assert typed_rows() == before
        with pytest.raises(DatabaseError), writing() as session:  # the audit only grows
            session.execute(delete(AuditEntry))
        assert _what_is_left() == []


def test_nothing_is_restored_into_rows_that_came_meanwhile(
    panel_on: Callable[..., Any], nas: Store, sqlite_template: Path, monkeypatch
):
    with panel_on("fresh", "postgresql"):
        real = catalogue.restore_rows

        def somebody_first(*values: Any) -> None:
            create_admin("bob", PASSWORD)
            real(*values)

        monkeypatch.setattr(catalogue, "restore_rows", somebody_first)
        with pytest.raises(Conflict, match="has rows of its own"):
            restore_catalogue(nas, exported(nas, sqlite_template.read_bytes()), (), print)
        assert [admin.username for admin in list_admins()] == ["bob"]


def test_a_killed_restore_of_rows_leaves_none(
    panel_on: Callable[..., Any], nas: Store, monkeypatch: pytest.MonkeyPatch
):
    with panel_on("lost", "sqlite"):
        plant_all()
        content = content_of_export()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with panel_on("fresh", "postgresql"):
        before = typed_rows()
        with monkeypatch.context() as cut:
            cut.setattr(portable, "_BATCH", 1)
            cut.setattr(
                portable,
                "insert",
                lambda table: killed() if table.name == "stores" else insert(table),
            )
            with pytest.raises(KeyboardInterrupt):
                restore_catalogue(nas, exported(nas, content), (), print)
        assert typed_rows() == before
        assert _what_is_left() == []


def test_an_older_export_is_upgraded_on_its_way_to_postgresql(
    panel_on: Callable[..., Any], nas: Store, tmp_path: Path
):
    old = tmp_path / "old.db"
    with panel_on("fresh", "postgresql"):
        engine = create_engine(f"sqlite:///{old}", poolclass=NullPool)
        prepare_file(engine, revision="0024")
        lines: list[str] = []
        restore_catalogue(nas, exported(nas, old.read_bytes()), (), lines.append)
        assert any("Upgrading the catalogue from revision 0024" in line for line in lines)


def _what_is_left() -> list[Path]:
    return list(settings().instance_dir.glob(".export-*"))
