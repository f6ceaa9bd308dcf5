"""The rules about assertions; what becomes of them in a restore is in restores/."""

import pytest
from flask import Flask

from app.errors import Conflict, InvalidInput, NotFound
from app.services.databases.lookup import database_of
from app.services.databases.service import add_database
from app.services.proofs import assertions as service

pytestmark = pytest.mark.usefixtures("context")

_TRUE = "SELECT true"


def add(name: str, statement: str = _TRUE) -> str:
    return service.add_assertion(name, statement, created_by="ann").id


def test_they_are_kept_by_name_edited_and_removed():
    second, first = add("b"), add("  a  ", "SELECT 1 = 1\r\n;\r\n")
    assert [(each.name, each.statement) for each in service.list_assertions()] == [
        ("a", "SELECT 1 = 1\n;"),
        ("b", _TRUE),
    ]
    edited = service.edit_assertion(second, name="c", by="bob")
    assert (edited.name, edited.statement, edited.created_by) == ("c", _TRUE, "ann")
    service.edit_assertion(second, statement="SELECT 2 = 2", by="bob")
    assert service.get_assertion_named("c").statement == "SELECT 2 = 2"
    service.remove_assertion(first, by="bob")
    assert [each.id for each in service.list_assertions()] == [second]


@pytest.mark.parametrize("name", ["", "  ", "n" * 101, "two\nlines", "a\x1b[2J", "nul\0", "\ud800"])
def test_a_name_must_be_one_printable_line(name: str):
    with pytest.raises(InvalidInput, match="printable"):
        add(name)
    key = add("fine")
    with pytest.raises(InvalidInput, match="printable"):
        service.edit_assertion(key, name=name, by="ann")
    assert [each.name for each in service.list_assertions()] == ["fine"]


@pytest.mark.parametrize(
    "statement", ["", " \r\n ", "S" * 10_001, "SELECT '\0'", "SELECT '\udfff'"]
)
def test_a_statement_must_be_one_that_postgresql_takes(statement: str):
    with pytest.raises(InvalidInput, match="the statement "):
        add("one", statement)
    key = add("fine")
    with pytest.raises(InvalidInput, match="the statement "):
        service.edit_assertion(key, statement=statement, by="ann")


def test_the_longest_of_each_are_kept_whole():
    key = add("ü" * 100, "é" * 10_000)
    kept = service.get_assertion(key)
    assert (len(kept.name), len(kept.statement)) == (100, 10_000)


def test_a_name_is_taken_once_for_each_database():
    first, second = add("a"), add("b")
    with pytest.raises(Conflict, match='an assertion "a" already'):
        add("a")
    with pytest.raises(Conflict, match='an assertion "a" already'):
        service.edit_assertion(second, name="a", by="ann")
    assert service.edit_assertion(first, name="a", statement="SELECT 3 = 3", by="ann").name == "a"
    assert service.get_assertion(second).name == "b"


def test_there_is_an_end_to_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service, "MAX_ASSERTIONS", 2)
    add("a")
    add("b")
    with pytest.raises(Conflict, match="the limit of 2 assertions is reached"):
        add("c")
    assert len(service.list_assertions()) == 2


def test_those_of_another_database_are_out_of_sight(make_app, app: Flask):
    key = add("a")
    of = database_of(service.list_assertions()[0].database_id)
    with make_app(database_url="postgresql://u@elsewhere/shop").app_context():
        assert service.list_assertions() == []
        with pytest.raises(NotFound):
            service.get_assertion_named("a")
        assert [each.name for each in service.list_assertions(of)] == ["a"]
        assert service.get_assertion_named("a", of).id == key


def test_one_of_any_database_is_known_by_its_id():
    other = add_database("crm", "postgresql://u@crm.example.org/crm", by="ann")
    key = service.add_assertion("a", _TRUE, of=other, created_by="ann").id
    assert service.get_assertion(key).name == "a"
    assert service.edit_assertion(key, name="b", by="bob").database_id == other.id
    service.remove_assertion(key, by="bob")
    assert service.list_assertions(other) == []
