"""flask database test, grants and discover: what the server of a database answers."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from flask import Flask

from app.postgres.connection_check import STEPS
from app.services.databases.lookup import default_database
from app.services.databases.service import add_database
from tests.conftest import NO_SERVER, Database

CANARY = "canary-pw"


def run(app: Flask, *words: str, **more: str) -> Result:
    return app.test_cli_runner().invoke(args=["database", *words], **more)


@pytest.fixture
def name(app: Flask) -> str:
    with app.app_context():
        return default_database().name


def test_a_connection_that_works_exits_with_0(app: Flask, name: str):
    tested = run(app, "test", name)
    assert tested.exit_code == 0
    words = [line.split() for line in tested.stdout.splitlines()]
    assert ["passed", "sign-in"] in [line[:2] for line in words]
    report = json.loads(run(app, "test", name, "--json").stdout)
    assert report["passed"]
    assert [step["name"] for step in report["steps"]] == list(STEPS)


def test_a_connection_that_fails_exits_with_1(app: Flask):
    with app.app_context():
        add_database("crm", NO_SERVER, by="ann")
    tested = run(app, "test", "crm")
    assert tested.exit_code == 1
    assert "failed  network" in tested.stdout
    assert "-       sign-in    not tried" in tested.stdout


def test_a_url_is_tested_from_standard_input(app: Flask, common_shop: Database):
    assert run(app, "test", "--url", "-", input=common_shop.url).exit_code == 0
    url = NO_SERVER.replace("u:p@", f"u:{CANARY}@")
    tested = run(app, "test", "--url", "-", input=url)
    assert tested.exit_code == 1
    assert CANARY not in tested.output
    refused = run(app, "test", "--url", url)
    assert "other users of this machine can see" in refused.stderr
    assert CANARY not in refused.output


def test_what_to_test_is_said_once(app: Flask, name: str):
    assert run(app, "test").exit_code == 2
    assert run(app, "test", name, "--url", "-").exit_code == 2


def test_grants_prints_nothing_but_sql(app: Flask, name: str):
    printed = run(app, "grants", name, "--role", "keeper")
    assert printed.exit_code == 0
    assert 'CREATE ROLE "keeper" LOGIN;' in printed.stdout
    lines = filter(None, printed.stdout.splitlines())
    assert all(line.startswith("--") or line.endswith(";") for line in lines)


def test_discover_lists_what_is_on_the_server(
    app: Flask, name: str, new_database: Callable[..., Database]
):
    other = new_database()
    printed = run(app, "discover", name)
    assert printed.exit_code == 0
    line = next(line for line in printed.stdout.splitlines() if line.startswith(other.name))
    assert line.endswith("MiB  not guarded")
    added = run(app, "discover", name, "--add", f"{other.name}=other")
    assert added.exit_code == 0
    assert "active, as other" in added.stdout
    rows = json.loads(run(app, "discover", name, "--json").stdout)["databases"]
    assert next(row for row in rows if row["dbname"] == other.name)["guardedAs"] == "other"


def test_discover_takes_a_name_for_each(app: Flask, name: str):
    refused = run(app, "discover", name, "--add", "crm")
    assert refused.exit_code == 1
    assert "'crm' is not DBNAME=NAME" in refused.stderr
