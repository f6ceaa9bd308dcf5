"""Catalogues as they were left by every state that people have run, with rows in every table."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg2
import pytest
from flask import Flask

from app import create_app
from app.extensions import db
from tests.conftest import as_catalogue, settings_in

CATALOGUES = Path(__file__).parent / "catalogues"

#: The revision, and what else tells one from another: 0009 and 0011 were changed after some
#: had run them.
FORMS = [
    "0001",
    "0006",
    "0009_without_names",
    "0011_first_form",
    "0012_second_form",
    "0012",
]


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def old_catalogue(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Flask]]:
    """Make a panel whose catalogue has a form of before, and enter its context."""
    new_database = request.getfixturevalue("new_database") if kind == "postgresql" else None
    with ExitStack() as contexts:

        def make(form: str) -> Flask:
            changes = {}
            if new_database is None:
                plant_file(tmp_path / "instance" / "catalogue.db", form)
            else:
                url = new_database().url
                changes["catalogue_url"] = as_catalogue(url)
                with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                    cursor.execute((CATALOGUES / f"{form}.postgresql.sql").read_text())
                    connection.commit()
            app = create_app(settings_in(tmp_path, "postgresql:///unused", **changes))
            contexts.enter_context(app.app_context())
            contexts.callback(_let_go)
            return app

        yield make


def _let_go() -> None:
    db.session.remove()
    db.engine.dispose()


def plant_file(path: Path, form: str) -> None:
    """A SQLite catalogue of this form, in place of what is there."""
    path.parent.mkdir(exist_ok=True)
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((CATALOGUES / f"{form}.sqlite.sql").read_text())
