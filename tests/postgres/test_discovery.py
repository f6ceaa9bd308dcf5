"""The databases of a server: real servers, real roles."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from app.errors import ConnectError, PostgresError
from app.postgres import discovery
from app.postgres.connection import Session
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.discovery import ServerDatabase, list_databases
from tests.conftest import NO_SERVER, Database
from tests.postgres.conftest import Role, as_admin, at, signed_in_as


def by_name(info: Conninfo) -> dict[str, ServerDatabase]:
    return {database.name: database for database in list_databases(info)}


@pytest.fixture
def low(new_role: Callable[..., Role], server: Conninfo) -> Conninfo:
    """A role without any right of its own."""
    return signed_in_as(new_role(), at(server, "postgres"))


def test_all_databases_are_listed_from_any_of_them(shop: Database, server: Conninfo):
    databases = by_name(parse_url(shop.url))
    size = shop.run("SELECT pg_database_size(current_database())")[0][0]
    assert databases[shop.name] == ServerDatabase(
        shop.name, server.parameters["user"], size, may_connect=True, is_internal=False
    )
    assert databases["postgres"].is_internal
    assert list(databases) == sorted(databases)
    assert set(by_name(at(server, "postgres"))) == set(databases)


def test_templates_and_databases_without_connections_are_left_out(
    new_database: Callable[..., Database], server: Conninfo
):
    closed, template, broken, kept = (new_database().name for _ in range(4))
    admin = as_admin(server)
    admin.run(f"ALTER DATABASE {closed} ALLOW_CONNECTIONS false")
    admin.run(f"ALTER DATABASE {template} IS_TEMPLATE true")
    admin.run("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", broken)
    try:
        names = set(by_name(at(server, "postgres")))
    finally:
        admin.run(f"ALTER DATABASE {template} IS_TEMPLATE false")
    assert names.isdisjoint({closed, template, broken, "template0", "template1"})
    assert kept in names


def test_a_database_that_the_role_may_not_enter_has_no_size(
    new_database: Callable[..., Database], low: Conninfo
):
    barred, free = new_database("a_barred"), new_database("b_free")
    barred.run("REVOKE CONNECT ON DATABASE a_barred FROM PUBLIC")
    databases = by_name(low)
    assert not databases[barred.name].may_connect
    assert databases[barred.name].size is None
    assert databases[free.name].may_connect
    assert databases[free.name].size


def test_a_database_that_vanishes_meanwhile_does_no_harm(
    new_database: Callable[..., Database], server: Conninfo, monkeypatch: pytest.MonkeyPatch
):
    gone, kept = new_database("a_vanishing").name, new_database("b_staying").name

    def drop_first(session: Session, oid: int) -> int | None:
        as_admin(server).run(f"DROP DATABASE IF EXISTS {gone}")
        return size(session, oid)

    size = discovery._size
    monkeypatch.setattr(discovery, "_size", drop_first)
    databases = by_name(at(server, "postgres"))
    assert databases[gone].size is None
    assert databases[kept].size


def test_a_slow_size_is_left_out(shop: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discovery, "_SIZES_LIMIT", 0.0)
    databases = list_databases(parse_url(shop.url))
    assert databases
    assert {database.size for database in databases} == {None}


def test_a_size_that_takes_too_long_is_given_up(shop: Database, monkeypatch: pytest.MonkeyPatch):
    slow = "SET LOCAL statement_timeout = 50; SAVEPOINT size; SELECT %s::oid, pg_sleep(60)"
    monkeypatch.setattr(discovery, "_SIZE", slow)
    databases = list_databases(parse_url(shop.url))
    assert databases
    assert {database.size for database in databases} == {None}


def test_a_lost_session_is_an_error(shop: Database, monkeypatch: pytest.MonkeyPatch):
    ends = "SELECT pg_terminate_backend(pg_backend_pid()), %s::oid"
    monkeypatch.setattr(discovery, "_SIZE", ends)
    with pytest.raises(PostgresError, match="the server did not answer"):
        list_databases(parse_url(shop.url))


def test_names_in_other_encodings_are_listed(server: Conninfo):
    admin = as_admin(server)
    with ExitStack() as after:
        admin.run("CREATE DATABASE in_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        after.callback(admin.run, "DROP DATABASE in_latin")
        in_latin = as_admin(server, "in_latin")
        in_latin.run('CREATE DATABASE "café"')
        after.callback(in_latin.run, 'DROP DATABASE "café"')
        names = set(by_name(at(server, "postgres")))
    assert "caf\udce9" in names


@pytest.mark.parametrize("major", [15, 18])
def test_older_and_newer_servers_are_asked_too(request: pytest.FixtureRequest, major: int):
    info = request.getfixturevalue(f"server_{major}")
    admin = as_admin(info)
    admin.run('CREATE DATABASE "two words"')
    try:
        databases = by_name(info)
    finally:
        admin.run('DROP DATABASE "two words"')
    assert databases["two words"].owner == info.parameters["user"]
    assert databases["two words"].size


def test_a_server_that_is_away_is_a_connect_error():
    with pytest.raises(ConnectError):
        list_databases(parse_url(NO_SERVER))
