"""The migrations lead to exactly the models, on both kinds of catalogue."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from sqlalchemy import event

from app import create_app
from app.config import ROOT
from app.errors import ConfigurationError
from app.extensions import Model, db
from app.services.catalogue.state import prepare_catalogue
from tests.conftest import Database, as_catalogue, settings_in


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[..., Database]
) -> Flask:
    changes = {}
    if request.param == "postgresql":
        url = new_database().url
        changes["catalogue_url"] = as_catalogue(url)
    app = create_app(settings_in(tmp_path, "postgresql:///unused", **changes))
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


def test_upgrade_to_head_equals_the_models(empty: Flask):
    prepare_catalogue()
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Model.metadata) == []


def test_downgrade_leaves_nothing_behind(empty: Flask):
    prepare_catalogue()
    config = empty.extensions["migrate"].migrate.get_config(str(ROOT / "migrations"))
    command.downgrade(config, "base")
    assert set(db.inspect(db.engine).get_table_names()) <= {"alembic_version"}


def test_preparing_twice_changes_nothing(empty: Flask):
    prepare_catalogue()
    before = db.inspect(db.engine).get_table_names()
    prepare_catalogue()
    assert db.inspect(db.engine).get_table_names() == before


def test_all_migrations_are_one_transaction(empty: Flask):
    """Or a second process would come in between and do the next one too."""
    commits: list[object] = []
    event.listen(db.engine, "commit", commits.append)
    prepare_catalogue()
    assert len(commits) == 1


def test_two_processes_at_once_make_one_catalogue(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path\n"
        "from app import create_app; from tests.conftest import settings_in\n"
        "from app.services.catalogue.state import prepare_catalogue\n"
        "app = create_app(settings_in(Path(sys.argv[1]), 'postgresql:///unused'))\n"
        "with app.app_context(): prepare_catalogue()\n"
    )
    together = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT) for _ in range(3)
    ]
    assert [process.wait(60) for process in together] == [0, 0, 0]


def test_a_catalogue_of_a_newer_panel_is_refused(empty: Flask):
    prepare_catalogue()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from-the-future'")
    with pytest.raises(ConfigurationError) as refused:
        prepare_catalogue()
    assert "from-the-future" in refused.value.detail


def test_the_database_itself_is_refused_as_catalogue(
    tmp_path: Path, new_database: Callable[..., Database]
):
    url = new_database().url
    app = create_app(settings_in(tmp_path, url, catalogue_url=as_catalogue(url)))
    with app.app_context(), pytest.raises(ConfigurationError, match="BACKSTOP_CATALOGUE_URL"):
        prepare_catalogue()


def test_a_catalogue_that_cannot_be_opened_is_told_without_its_password(tmp_path: Path):
    url = "postgresql+psycopg2://ann:canary-pw@127.0.0.1:1/catalogue"
    app = create_app(settings_in(tmp_path, "postgresql:///unused", catalogue_url=url))
    with app.app_context(), pytest.raises(ConfigurationError) as refused:
        prepare_catalogue()
    assert "canary-pw" not in refused.value.in_words()
    assert "Connection refused" in refused.value.detail
