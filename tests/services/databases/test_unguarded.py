"""Servers are looked at once an hour; whom nobody guards there is known to every process."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.extensions import db, writing
from app.models import Kind, Restore, ServerLook, Trigger, types
from app.postgres.conninfo import Conninfo
from app.services.databases import unguarded
from app.services.databases.lookup import default_database, list_databases
from app.services.databases.service import (
    Changes,
    add_database,
    edit_database,
    pause_database,
    resume_database,
    retire_database,
)
from app.services.databases.unguarded import list_servers, look_at_servers
from tests.conftest import NO_SERVER, Database, url_of

pytestmark = pytest.mark.usefixtures("context")

HOUR = timedelta(hours=1, seconds=1)


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Turns the clock forward."""
    ahead, clock = timedelta(0), types._clock

    def forward(length: timedelta) -> None:
        nonlocal ahead
        ahead += length

    monkeypatch.setattr(types, "_clock", lambda: clock() + ahead)
    return forward


@pytest.fixture
def other(server_18: Conninfo) -> Iterator[Conninfo]:
    """A server with two databases, of which we guard crm."""
    admin = Database("postgres", url_of(server_18, "postgres"))
    for name in ("crm", "billing"):
        admin.run(f"CREATE DATABASE {name}")
    add_database("crm", url_of(server_18, "crm"), by="ann")
    yield server_18
    for name in ("crm", "billing", "later"):
        admin.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def unguarded_on(server: Conninfo) -> set[str]:
    name = f"{server.parameters['host']}:{server.parameters['port']}"
    names = {dbname for one in list_servers() if one.name == name for dbname in one.unguarded}
    db.session.commit()
    return names


def test_what_restores_have_made_does_not_count(other: Conninfo):
    with writing() as session:
        session.add(
            Restore(
                filename="x.dump",
                kind=Kind.REPLACE,
                trigger=Trigger.API,
                server=next(row.server for row in list_databases() if row.name == "crm"),
                database="crm",
                working="x",
                kept="billing",
            )
        )
    look_at_servers()
    assert unguarded_on(other) == set()


def test_who_has_no_backup_is_found_by_a_look(other: Conninfo):
    assert unguarded_on(other) == set()
    look_at_servers()
    assert unguarded_on(other) == {"billing"}


def test_a_server_is_looked_at_once_an_hour(other: Conninfo, forward: Callable[..., None]):
    look_at_servers()
    Database("postgres", url_of(other, "postgres")).run("CREATE DATABASE later")
    look_at_servers()
    assert unguarded_on(other) == {"billing"}
    forward(HOUR)
    look_at_servers()
    assert unguarded_on(other) == {"billing", "later"}


def test_whom_we_guard_or_have_retired_is_known_at_once(other: Conninfo):
    look_at_servers()
    add_database("bills", url_of(other, "billing"), by="ann")
    assert unguarded_on(other) == set()
    retire_database("bills", by="ann")
    assert unguarded_on(other) == set()


def test_only_servers_of_active_databases_count(other: Conninfo):
    pause_database("crm", by="ann")
    look_at_servers()
    assert unguarded_on(other) == set()
    resume_database("crm", by="ann")
    look_at_servers()
    assert unguarded_on(other) == {"billing"}
    retire_database("crm", by="ann")
    assert unguarded_on(other) == set()


def test_a_server_that_is_down_raises_nothing_and_delays_nobody(other: Conninfo):
    add_database("a", NO_SERVER, by="ann")
    look_at_servers()
    assert [one.unguarded for one in list_servers() if one.name == "127.0.0.1:1"] == [[]]
    assert unguarded_on(other) == {"billing"}


def test_what_a_server_answered_stays_while_it_is_down(
    other: Conninfo, forward: Callable[..., None]
):
    look_at_servers()
    wrong = url_of(other, "crm", password="wrong")
    edit_database("crm", Changes(url=wrong), by="ann")
    forward(HOUR)
    look_at_servers()
    assert unguarded_on(other) == {"billing"}


def test_the_databases_of_a_server_lead_there_in_turn(
    other: Conninfo, forward: Callable[..., None]
):
    add_database("broken", url_of(other, "nowhere"), by="ann")
    look_at_servers()
    forward(HOUR)
    look_at_servers()
    assert unguarded_on(other) == {"billing"}
    first = dict(db.session.execute(select(ServerLook.server, ServerLook.asked_by)).all())
    db.session.commit()
    forward(HOUR)
    look_at_servers()
    second = dict(db.session.execute(select(ServerLook.server, ServerLook.asked_by)).all())
    server = next(row.server for row in list_databases() if row.name == "crm")
    assert first[server] != second[server]


def test_only_one_process_looks(other: Conninfo, monkeypatch: pytest.MonkeyPatch):
    looks = []
    monkeypatch.setattr(unguarded, "_look", lambda server, _: looks.append(server.name))
    monkeypatch.setattr(unguarded, "_LOOK_EVERY", timedelta(0))
    for _ in range(2):  # the first look at a server, and a later one
        seen = list_servers()
        db.session.commit()
        looks.clear()
        with monkeypatch.context() as patch:
            patch.setattr(unguarded, "list_servers", lambda seen=seen: seen)
            look_at_servers()
            assert looks
            look_at_servers()  # another process that has seen the same
        assert len(looks) == len(set(looks))


def test_the_sample_is_not_looked_at(make_app: Callable[..., object]):
    with make_app(database_url=None).app_context():
        default_database()
        assert [server.active for server in list_servers()] == [[]]
        look_at_servers()
        assert list_servers()[0].look is None
