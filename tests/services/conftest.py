"""The rules hold on both kinds of catalogue."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app import create_app
from app.extensions import db
from app.services import admins
from app.services.catalogue import prepare_catalogue
from tests.conftest import Database, settings_in, sqlite_catalogue, url_of


@pytest.fixture(scope="session")
def catalogue_template_on_postgresql(
    server, tmp_path_factory: pytest.TempPathFactory
) -> str:
    Database("postgres", url_of(server, "postgres")).run("CREATE DATABASE catalogue_template")
    url = with_driver(url_of(server, "catalogue_template"))
    folder = tmp_path_factory.mktemp("catalogue")
    with create_app(settings_in(folder, "postgresql:///unused", catalogue_url=url)).app_context():
        prepare_catalogue()
        admins.create_first_admin()
        db.session.remove()
        db.engine.dispose()
    return "catalogue_template"


@pytest.fixture(params=["sqlite", "postgresql"])
def catalogue_url(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    catalogue_template: Path,
    new_database: Callable[..., Database],
) -> str:
    if request.param == "sqlite":
        return sqlite_catalogue(tmp_path, catalogue_template)
    template = request.getfixturevalue("catalogue_template_on_postgresql")
    return with_driver(new_database(template=template).url)


def with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)
