"""A catalogue as one SQLite file, from and into both kinds: every row of every table, or none."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from app import create_app
from app.config import ROOT, settings
from app.errors import ConfigurationError, Conflict, VerificationError
from app.extensions import Model, db
from app.models import Admin, Assertion, AuditEntry, DatabaseBackup
from app.services.audit import log
from app.services.catalogue import portable
from app.services.catalogue.portable import replace_catalogue, snapshot
from app.services.catalogue.state import find_revisions, prepare_catalogue
from tests.conftest import NO_SERVER, Database, as_catalogue, on_catalogues, settings_in
from tests.migrations.conftest import plant_file
from tests.services.catalogue.portable_rows import all_rows, fill, rows_of

on_postgresql = on_catalogues("own postgresql")
READ_ONLY = "SELECT current_setting('transaction_read_only')"
NewDatabase = Callable[..., Database]


@pytest.fixture
def empty(tmp_path: Path, new_database: NewDatabase) -> Iterator[None]:
    """A catalogue on PostgreSQL without a row."""
    folder = tmp_path / "empty"
    folder.mkdir()
    url = as_catalogue(new_database().url)
    with create_app(settings_in(folder, NO_SERVER, catalogue_url=url)).app_context():
        prepare_catalogue()
        yield
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def file(tmp_path: Path, sqlite_template: Path) -> Path:
    """A catalogue on SQLite with rows in every table."""
    path = tmp_path / "file.db"
    shutil.copy(sqlite_template, path)
    with create_app(
        settings_in(tmp_path, NO_SERVER, catalogue_url=f"sqlite:///{path}")
    ).app_context():
        fill()
        db.engine.dispose()
    return path


def engine_of(path: Path) -> Engine:
    return create_engine(f"sqlite:///{path}", poolclass=NullPool)


def rows_in(path: Path) -> dict:
    with engine_of(path).connect() as connection:
        return rows_of(connection)


def run_in(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as catalogue:
        catalogue.execute(statement)
        catalogue.commit()


def written(folder: Path) -> Path:
    with snapshot() as content:
        path = folder / "written.db"
        path.write_bytes(content.read())
    return path


def allow(_: Connection) -> None:
    """Refuse nothing."""


@pytest.mark.usefixtures("context")
def test_a_snapshot_has_every_row_of_every_table(tmp_path: Path):
    fill()
    expected = all_rows()
    assert all(expected.values())
    path = written(tmp_path)
    assert rows_in(path) == expected
    with engine_of(path).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Model.metadata) == []
        assert context.get_current_revision() == find_revisions()[1][0]
        (triggers,) = connection.scalars(
            text("SELECT count(*) FROM sqlite_master WHERE sql LIKE '%RAISE%'")
        )
    assert triggers == 2
    assert list(settings().instance_dir.glob("catalogue.db.export-*")) == []


@on_postgresql
@pytest.mark.usefixtures("context")
def test_a_snapshot_is_of_one_moment_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    revision = portable._revision

    def meanwhile(connection: Connection) -> str | None:
        found = revision(connection)
        if connection.dialect.name == "postgresql":
            with db.engine.begin() as other:
                other.execute(insert(Admin), [{"username": "late", "password_hash": ""}])
            assert connection.scalar(text(READ_ONLY)) == "on"
        return found

    monkeypatch.setattr(portable, "_revision", meanwhile)
    names = [row["username"] for row in rows_in(written(tmp_path))["admins"]]
    assert names == ["admin"]
    with db.engine.connect() as connection:
        assert connection.scalar(text(READ_ONLY)) == "off"


@on_postgresql
@pytest.mark.usefixtures("context")
def test_a_catalogue_of_another_version_is_not_copied_by_this_one():
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="schema of this version"), snapshot():
        pass
    assert list(settings().instance_dir.glob("catalogue.db.export-*")) == []


@pytest.mark.usefixtures("empty")
def test_a_file_becomes_the_catalogue_on_postgresql(file: Path):
    expected = rows_in(file)
    db.session.add(AuditEntry(**dict.fromkeys(AuditEntry.__table__.columns.keys(), "") | {"id": 1}))
    db.session.commit()
    replace_catalogue(file, print, allow)
    assert all_rows() == expected
    with pytest.raises(VerificationError, match="chain"):  # the planted entries have no hashes
        log.verify()
    assert log._missing_guards() == []


@pytest.mark.usefixtures("empty")
def test_no_table_has_a_sequence_that_would_have_to_go_on():
    with db.engine.connect() as connection:
        assert connection.scalars(text("SELECT sequencename FROM pg_sequences")).all() == []


@pytest.mark.usefixtures("empty")
def test_a_file_of_an_old_version_is_upgraded_on_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "old" / "old.db"
    plant_file(path, "0012")
    replace_catalogue(path, print, allow)
    with db.engine.connect() as connection:
        assert connection.scalar(select(Assertion.name).limit(1)) is not None
        assert connection.scalar(select(DatabaseBackup.database_id).limit(1)) is not None
    assert "Upgrading the catalogue from revision 0012" in capsys.readouterr().out
    assert [found.name for found in path.parent.iterdir()] == ["old.db"]


KILLED = """
import itertools, os, pathlib, signal, sys
from app import create_app
from app.services.catalogue import portable
from tests.conftest import NO_SERVER, settings_in

storable, values = portable._storable, itertools.count()

def killed(value):
    if next(values) == 500:
        os.kill(os.getpid(), signal.SIGKILL)
    return storable(value)

portable._storable = killed
file, url = pathlib.Path(sys.argv[1]), sys.stdin.read()
with create_app(settings_in(file.parent, NO_SERVER, catalogue_url=url)).app_context():
    portable.replace_catalogue(file, print, lambda _: None)
"""


@pytest.mark.usefixtures("empty")
def test_one_that_is_killed_leaves_nothing(file: Path):
    command = [sys.executable, "-c", KILLED, str(file)]
    url = settings().catalogue_url
    ended = subprocess.run(command, cwd=ROOT, input=url, text=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not any(all_rows().values())
    assert log._missing_guards() == []
    replace_catalogue(file, print, allow)
    assert all(all_rows().values())


@pytest.mark.usefixtures("empty")
def test_what_others_write_until_the_lock_is_seen_and_then_they_wait(file: Path):
    def refuse(connection: Connection) -> None:
        assert connection.scalar(select(Admin.username)) == "quick"
        with db.engine.connect() as other:
            other.exec_driver_sql("SET lock_timeout = 50")
            with pytest.raises(OperationalError, match="lock timeout"):
                other.execute(update(Admin).values(username="slow"))
        raise Conflict("the catalogue has rows of its own")

    with db.engine.begin() as connection:
        connection.execute(insert(Admin), [{"username": "quick", "password_hash": ""}])
    with pytest.raises(Conflict):
        replace_catalogue(file, print, refuse)
    assert [row["username"] for row in all_rows()["admins"]] == ["quick"]


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE admins SET username = printf('%300s', 'x')",
        "UPDATE database_backups SET status = 'canary'",
        "UPDATE proofs SET backup_id = 'nowhere'",
    ],
)
def test_a_file_that_does_not_fit_is_refused_whole(file: Path, statement: str):
    run_in(file, statement)
    with pytest.raises(VerificationError, match="cannot be restored"):
        replace_catalogue(file, print, allow)
    assert not any(all_rows().values())


@pytest.mark.usefixtures("context")
def test_a_file_without_a_table_is_refused_by_both_kinds(file: Path):
    run_in(file, "DROP TABLE proofs")
    with pytest.raises(VerificationError, match="lacks proofs"):
        replace_catalogue(file, print, allow)
    assert [row["username"] for row in all_rows()["admins"]] == ["admin"]


@pytest.mark.usefixtures("empty")
def test_a_nul_in_a_text_is_replaced_where_none_can_be_kept(file: Path):
    run_in(file, "UPDATE admins SET username = 'a' || char(0) || 'b'")
    replace_catalogue(file, print, allow)
    assert [row["username"] for row in all_rows()["admins"]] == ["a\ufffdb"]
