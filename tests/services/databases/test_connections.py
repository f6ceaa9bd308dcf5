"""How databases are reached: by a URL of their own, by DATABASE_URL, or as the sample."""

from collections.abc import Callable

import psycopg2
import pytest
from flask import Flask

from app.errors import ConfigurationError, Conflict, ConnectError
from app.extensions import writing
from app.models import Database as Row
from app.postgres.connection import open_session
from app.services.databases import connections, lookup, service
from app.services.databases.service import Changes
from tests.conftest import Database

pytestmark = pytest.mark.usefixtures("context")

CRM = "postgresql://reader:canary-pw@crm.example.org:6432/crm"


def test_each_is_reached_by_its_own_url(shop: Database, new_database: Callable[..., Database]):
    other = new_database()
    own = service.add_database("other", other.url, by="ann")
    for row, database in ((lookup.default_database(), shop), (own, other)):
        info = connections.connection_of(row)
        assert info.database == database.name
        with open_session(info, application_name="a test") as session:
            assert session.ask("SELECT current_database()") == database.name


def test_one_that_the_environment_no_longer_names_cannot_be_reached(
    make_app: Callable[..., Flask],
):
    old = lookup.default_database()
    with make_app(database_url="postgresql://u:canary-pw@db2/crm").app_context():
        with pytest.raises(Conflict, match="DATABASE_URL names another database") as error:
            connections.connection_of(old)
        assert "crm on db2:5432" in error.value.detail
        assert f"flask database edit {old.name}" in error.value.hint
        assert "canary" not in f"{error.value.message} {error.value.detail} {error.value.hint}"
        assert not connections.is_in_environment(old)
        edited = service.edit_database(old.name, Changes(url=CRM), by="ann")
        assert connections.connection_of(edited).server == "crm.example.org:6432"


def test_a_new_password_in_the_environment_is_used_at_once(make_app: Callable[..., Flask]):
    with make_app(database_url="postgresql://u:first-password@db1/crm").app_context():
        database = lookup.default_database()
        assert connections.connection_of(database).password == "first-password"
    with make_app(database_url="postgresql://u:second-password@db1/crm").app_context():
        assert connections.connection_of(database).password == "second-password"


def test_a_url_that_cannot_be_read_names_the_database_and_not_the_secret(
    make_app: Callable[..., Flask],
):
    database = service.add_database("crm", CRM, by="ann")
    with make_app(secret_key="another secret key than before").app_context():
        with pytest.raises(ConfigurationError) as error:
            connections.connection_of(database)
        assert error.value.hint
    assert "canary" not in f"{error.value.message} {error.value.detail} {error.value.hint}"


def test_the_sample_is_known_as_such_and_is_down_until_it_is_used(
    make_app: Callable[..., Flask],
):
    with make_app(database_url=None).app_context():
        sample = lookup.default_database()
        assert (sample.server, sample.dbname) == ("embedded", "ecom")
        assert connections.is_sample(sample)
        with pytest.raises(ConnectError):
            connections.connection_of(sample)
    assert not connections.is_sample(sample)
    assert not connections.is_sample(lookup.default_database())


def test_a_server_that_is_away_is_told_without_its_secret(caplog: pytest.LogCaptureFixture):
    database = service.add_database("gone", "postgresql://u:canary-pw@127.0.0.1:1/crm", by="ann")
    with (
        pytest.raises((ConnectError, psycopg2.Error)) as error,
        open_session(connections.connection_of(database), application_name="a test"),
    ):
        pass
    assert "canary" not in f"{error.value} {caplog.text}"


def test_a_row_says_nothing_of_how_it_is_reached():
    with writing() as session:
        database = Row(name="crm", server="s", dbname="crm")
        session.add(database)
        session.flush()
        assert (database.url, database.from_environment) == ("", False)
