"""flask assertion, and what a drill tells of it in a terminal."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from flask import Flask

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    cli = app.test_cli_runner()
    return lambda *words, **more: cli.invoke(args=list(words), **more)


def test_they_are_added_listed_and_removed(run: Run):
    assert run("assertion", "list").stderr.endswith(" has no assertions.\n")
    assert run("assertion", "add", "orders", "SELECT\n\x1b[2J true").output == (
        "orders has been added.\n"
    )
    added = json.loads(run("assertion", "add", "b", "SELECT true", "--json").stdout)
    assert (added["name"], added["statement"]) == ("b", "SELECT true")
    assert run("assertion", "list").stdout == (
        "b       SELECT true\norders  SELECT \N{REPLACEMENT CHARACTER}[2J true\n"
    )
    told = json.loads(run("assertion", "list", "--json").stdout)["assertions"]
    assert [each["statement"] for each in told] == ["SELECT true", "SELECT\n\x1b[2J true"]
    assert run("assertion", "remove", "b", input="n\n").exit_code == 1
    assert run("assertion", "remove", "b", input="y\n").exit_code == 0
    assert run("assertion", "remove", "orders", "--yes").stdout == "orders has been removed.\n"
    assert run("assertion", "list").stdout == ""


def test_what_cannot_be_meant_is_told_and_exits_with_1(run: Run):
    run("assertion", "add", "a", "SELECT true")
    for words, told in (
        (("add", "a", "SELECT true"), 'Error: there is an assertion "a" already'),
        (("add", "b\n", ""), "Error: the statement is empty"),
        (("add", "", "SELECT true"), "Error: the name must have"),
        (("remove", "nothing", "--yes"), "Error: no such assertion"),
    ):
        result = run("assertion", *words)
        assert (result.exit_code, told in result.stderr) == (1, True), result.output


def test_a_drill_and_show_tell_what_was_asserted(run: Run, make_app: Callable[..., Flask]):
    cli = make_app(drill_amcheck=True).test_cli_runner()
    name = run("backup", "create").stdout.split(" ", 1)[0]
    run("assertion", "add", "orders", "SELECT count(*) = 500 FROM orders")
    result = cli.invoke(args=["backup", "drill", name])
    assert result.exit_code == 0, result.output
    told = "  assertion orders: true\n  pg_amcheck: nothing found\n"
    assert f"no difference.\n{told}" in result.stdout
    assert "Restored and checked in " in run("backup", "list").stdout
    assert told in run("backup", "show", name).stdout
    run("assertion", "add", "customers", "SELECT count(*) = 500 FROM customers")
    result = run("backup", "drill", name)
    assert result.exit_code == 1
    assert "Error: the drill found assertions that do not hold\n" in result.stderr
    assert "Detail: assertion customers: it is false\n" in result.stderr
    shown = run("backup", "show", name).stdout
    assert "  assertion customers: NOT TRUE (it is false)\n  assertion orders: true\n" in shown
    assert "PROOF FAILED" in run("backup", "list").stdout
