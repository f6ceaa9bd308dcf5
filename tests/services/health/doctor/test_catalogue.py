"""The catalogue, of both kinds."""

import os
import secrets
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text

from app.config import settings as current_settings
from app.extensions import db, writing
from app.postgres.conninfo import Conninfo
from app.services.health.doctor import Finding, State, examine
from app.services.health.doctor import catalogue as of_catalogue
from tests.conftest import Database, on_catalogues, url_of
from tests.servers import only_by_root
from tests.services.health.doctor.conftest import OK, PROBLEM, WARNING, found, plant

pytestmark = pytest.mark.usefixtures("context")


def is_sqlite() -> bool:
    return db.engine.dialect.name == "sqlite"


def catalogue_file() -> Path:
    assert is_sqlite()
    db.session.remove()
    db.engine.dispose()
    return current_settings().instance_dir / "catalogue.db"


def only_the_catalogue_is_in_the_way() -> Finding:
    findings = {each.subject: each for each in examine()}
    for subject in ("migrations", "clock", "worker", "newest backup", "dumps"):
        assert findings[subject] == Finding(
            subject, WARNING, "not examined: the catalogue cannot be read"
        )
    assert findings["free space"].state is OK
    assert findings["catalogue"].state is PROBLEM
    assert findings["catalogue"].hint
    return findings["catalogue"]


@on_catalogues("sqlite", "postgresql")
def test_a_catalogue_is_told_with_its_kind():
    assert found("catalogue").told.endswith("whole and writable")
    assert ("SQLite" if is_sqlite() else "PostgreSQL") in found("catalogue").told
    assert found("migrations").state is OK


def test_a_missing_catalogue_is_a_problem_and_is_not_made():
    file = catalogue_file()
    file.unlink()
    assert "is not there" in only_the_catalogue_is_in_the_way().told
    assert not file.exists()


def test_a_file_that_is_no_catalogue_is_a_problem():
    file = catalogue_file()
    file.write_bytes(b"something else " * 1000)
    assert "not a database" in only_the_catalogue_is_in_the_way().told
    assert file.read_bytes() == b"something else " * 1000


def test_a_damaged_catalogue_is_a_problem():
    for n in range(50):
        plant(timedelta(minutes=n), 1)
    file = catalogue_file()  # closed, its log is in it
    content = bytearray(file.read_bytes())
    pages = [n for n in range(4096, len(content), 4096) if content[n] in (10, 13)]
    for start in pages:
        content[start : start + 8] = b"\xff" * 8
    file.write_bytes(content)
    assert only_the_catalogue_is_in_the_way().told


@only_by_root
def test_a_catalogue_that_cannot_be_written_is_a_problem(app: Flask, passable_dir: Path):
    file = catalogue_file()
    folder = passable_dir / secrets.token_hex(4)
    folder.mkdir()
    shutil.copy(file, folder / "catalogue.db")
    (folder / "catalogue.db").chmod(0o444)
    folder.chmod(0o777)  # the log beside it can be written
    shutil.move(file, file.with_suffix(".away"))
    file.symlink_to(folder / "catalogue.db")
    for each in list(file.parents)[:-2]:
        each.chmod(0o755)
    os.seteuid(65534)
    try:
        line = of_catalogue.examine_catalogue()[0]
    finally:
        os.seteuid(0)
    assert line.state is PROBLEM
    assert "readonly" in line.told
    assert line.hint


@on_catalogues("own postgresql")
def test_a_catalogue_server_that_takes_no_writes_is_a_problem(server: Conninfo):
    name = db.engine.url.database
    Database("", url_of(server, "postgres")).run(
        f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
    )
    db.session.remove()
    db.engine.dispose()
    assert "is read-only" in only_the_catalogue_is_in_the_way().told


@on_catalogues("own postgresql")
def test_a_catalogue_server_that_is_away_is_a_problem(server: Conninfo):
    name = db.engine.url.database
    db.session.remove()
    db.engine.dispose()
    Database("", url_of(server, "postgres")).run(f'DROP DATABASE "{name}" WITH (FORCE)')
    line = only_the_catalogue_is_in_the_way()
    assert "does not exist" in line.told
    assert server.password not in str(line)


@on_catalogues("sqlite", "postgresql")
@pytest.mark.parametrize(
    ("revision", "hint"),
    [
        ("0001", "Start the panel again"),
        (None, "Start the panel again"),
        ("9999", "newer Backstop"),
    ],
)
def test_a_catalogue_of_another_revision_is_a_problem(revision: str | None, hint: str):
    with writing() as session:
        session.execute(text("DELETE FROM alembic_version"))
        if revision:
            session.execute(text(f"INSERT INTO alembic_version VALUES ('{revision}')"))
    findings = {each.subject: each for each in examine()}
    assert findings["catalogue"].state is OK
    assert findings["migrations"].state is PROBLEM
    assert f"revision {revision or 'none'}" in findings["migrations"].told
    assert hint in findings["migrations"].hint
    assert findings["worker"].told.startswith("not examined")
    assert db.session.scalar(text("SELECT version_num FROM alembic_version")) == revision


def test_an_empty_file_is_a_catalogue_without_a_revision():
    catalogue_file().write_bytes(b"")
    assert "revision none" in found("migrations").told


@on_catalogues("sqlite", "postgresql")
@pytest.mark.parametrize(("ahead", "state"), [(30, OK), (90, PROBLEM)])
def test_a_backup_of_the_future_tells_of_a_clock_set_back(ahead: int, state: State):
    plant(-timedelta(seconds=ahead), 1)
    line = found("clock")
    assert line.state is state
    assert ("was set back" in line.told) is (state is PROBLEM)
