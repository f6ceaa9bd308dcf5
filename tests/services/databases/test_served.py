"""Another terminal knows which database the running panel is for."""

from collections.abc import Callable

import pytest
from flask import Flask

from app.config import settings
from app.errors import Conflict
from app.services.databases.served import noted_database, noting_database, refuse_another_database

pytestmark = pytest.mark.usefixtures("context")

OTHER = "postgresql://ann:canary-pw@db1/crm"


def test_the_same_database_is_not_refused():
    with noting_database():
        refuse_another_database()


def test_another_database_is_refused_while_the_panel_runs(make_app: Callable[..., Flask]):
    with noting_database():
        with (
            make_app(database_url=OTHER).app_context(),
            pytest.raises(Conflict, match=r"this command would use crm") as refused,
        ):
            refuse_another_database()
        assert "crm on db1:5432" in refused.value.detail
        assert "--other-database" in refused.value.hint
        with make_app(database_url=None).app_context(), pytest.raises(Conflict) as refused:
            refuse_another_database()
        assert "ecom on embedded, as DATABASE_URL is not set" in refused.value.detail


def test_a_panel_that_has_ended_refuses_nothing(make_app: Callable[..., Flask]):
    with noting_database():
        pass
    assert noted_database() is None
    with make_app(database_url=OTHER).app_context():
        refuse_another_database()


def test_the_note_holds_no_secret_and_is_for_us_alone(make_app: Callable[..., Flask]):
    with make_app(database_url=OTHER).app_context(), noting_database():
        path = settings().instance_dir / "database.json"
        assert path.read_text() == '{"server": "db1:5432", "dbname": "crm"}'
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_note_that_cannot_be_read_is_none():
    path = settings().instance_dir / "database.json"
    with noting_database():
        path.write_text("{")
        assert noted_database() is None
