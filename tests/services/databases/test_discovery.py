"""The databases of a server are found from one of them, and guarded by its way."""

from collections.abc import Callable

import pytest
from flask import Flask

from app.errors import Conflict, ConnectError, InvalidInput
from app.extensions import db, writing
from app.models import Kind, Restore, Trigger
from app.postgres.conninfo import Conninfo
from app.services.databases.configured import address_in_environment
from app.services.databases.connection_test import check_database
from app.services.databases.discovery import Choice, Neighbour, add_neighbours, discover
from app.services.databases.lookup import default_database, get_database, list_databases
from app.services.databases.service import add_database, retire_database
from app.steps import is_passed
from tests.conftest import NO_SERVER, Database, url_of

pytestmark = pytest.mark.usefixtures("context")


def neighbours() -> dict[str, Neighbour]:
    return {neighbour.dbname: neighbour for neighbour in discover(default_database().name)}


def names() -> list[str]:
    return [database.name for database in list_databases()]


def test_all_databases_of_the_server_are_listed_with_those_we_know(
    shop: Database, new_database: Callable[..., Database], server: Conninfo
):
    other, retired = new_database("Other shop"), new_database()
    add_database("old", url_of(server, retired.name), by="ann")
    retire_database("old", by="ann")
    listed = neighbours()
    known = listed[shop.name].known
    assert known is not None
    assert known.name == default_database().name
    assert listed[retired.name].known is not None
    assert listed[other.name].known is None
    assert listed[other.name].proposed_name == "other-shop"
    assert listed[other.name].on_server.size
    assert "postgres" not in listed
    assert list(listed) == sorted(listed)


def test_names_are_proposed_that_nobody_has(new_database: Callable[..., Database]):
    new_database("Twin"), new_database("twin")
    add_database("twin", NO_SERVER, by="ann")
    listed = neighbours()
    assert {listed["Twin"].proposed_name, listed["twin"].proposed_name} == {"twin-2", "twin-3"}


def test_what_restores_have_made_is_left_out(new_database: Callable[..., Database]):
    working, kept = new_database(), new_database()
    with writing() as session:
        session.add(
            Restore(
                filename="x.dump",
                kind=Kind.REPLACE,
                trigger=Trigger.API,
                server=address_in_environment().server,
                database="x",
                working=working.name,
                kept=kept.name,
            )
        )
    assert {working.name, kept.name}.isdisjoint(neighbours())


def test_chosen_ones_are_guarded_by_the_same_way(
    new_database: Callable[..., Database], server: Conninfo
):
    odd = new_database("o'dd =&?/%41 näme")
    plain = new_database()
    chosen = [Choice(odd.name, "odd"), Choice(plain.name, "plain")]
    added = add_neighbours(default_database().name, chosen, by="ann")
    assert [(row.name, row.dbname) for row in added] == [("odd", odd.name), ("plain", plain.name)]
    assert {row.server for row in added} == {default_database().server}
    assert is_passed(check_database("odd"))
    assert server.password not in get_database("odd").url
    assert neighbours()[odd.name].known is not None


def test_all_are_added_or_none(new_database: Callable[..., Database]):
    first, second = new_database(), new_database()
    ours = default_database()
    for wrong, error in (
        (Choice(second.name, "one"), Conflict),  # a name twice
        (Choice(first.name, "two"), Conflict),  # a database twice
        (Choice(ours.dbname, "two"), Conflict),  # it is guarded
        (Choice(second.name, "Two!"), InvalidInput),
        (Choice("nowhere", "two"), InvalidInput),
        (Choice("postgres", "two"), InvalidInput),
    ):
        with pytest.raises(error):
            add_neighbours(ours.name, [Choice(first.name, "one"), wrong], by="ann")
        assert names() == [ours.name]
    with pytest.raises(InvalidInput, match="no database is chosen"):
        add_neighbours(ours.name, [], by="ann")


def test_a_server_that_is_down_is_named():
    add_database("crm", NO_SERVER, by="ann")
    with pytest.raises(ConnectError):
        discover("crm")


def test_the_server_of_the_sample_takes_no_others(make_app: Callable[..., Flask]):
    db.session.remove()
    with (
        make_app(database_url=None).app_context(),
        pytest.raises(Conflict, match="only for the sample"),
    ):
        add_neighbours(default_database().name, [Choice("postgres", "x")], by="ann")
