"""flask database, and --database elsewhere."""

import json
import re
from collections.abc import Callable

import pytest
from click.testing import Result
from flask import Flask

from tests.conftest import Database
from tests.services.copies.test_places import here
from tests.services.health.test_figures import START, keep, plant

Run = Callable[..., Result]
CANARY = "canary-pw"


@pytest.fixture
def run(app: Flask) -> Run:
    cli = app.test_cli_runner()
    return lambda *words, **more: cli.invoke(args=list(words), **more)


def test_a_database_is_added_listed_changed_and_retired(run: Run):
    url = f"postgresql://u:{CANARY}@db2:5432/crm"
    added = run("database", "add", "crm", "-", "--max-age", "26h", input=f"{url}\n")
    assert added.exit_code == 0, added.output
    assert added.stdout.startswith("crm is guarded: crm on db2:5432.\n")
    crm = next(line for line in run("database", "list").stdout.splitlines() if "crm" in line)
    assert re.split(r" {2,}", crm) == ["crm", "active", "crm on db2:5432", "no backup"]
    assert run("database", "edit", "crm", "--rename", "sales").stdout == "sales has been saved.\n"
    for option, skips in (("--skip-counting", True), ("--count", False)):
        assert run("database", "edit", "sales", option).exit_code == 0
        row = json.loads(run("database", "show", "sales", "--json").stdout)
        assert row["skipsCounting"] is skips
    for given, kept in (("4", 4), ("0", None)):
        assert run("database", "edit", "sales", "--dump-jobs", given).exit_code == 0
        assert json.loads(run("database", "show", "sales", "--json").stdout)["dumpJobs"] == kept
    assert run("database", "pause", "sales").exit_code == 0
    assert re.search(r"^sales +paused ", run("database", "list").stdout, re.MULTILINE)
    assert run("database", "resume", "sales").exit_code == 0
    assert run("database", "retire", "sales", input="n\n").exit_code == 1
    assert run("database", "retire", "sales", "--yes").exit_code == 0
    rows = json.loads(run("database", "list", "--json").stdout)["databases"]
    (row,) = [each for each in rows if each["name"] == "sales"]
    assert (row["state"], row["maxAge"]) == ("retired", 26 * 3600)
    assert CANARY not in run("database", "list", "--json").output


def test_the_copies_of_the_newest_good_backup_are_shown(app: Flask, run: Run):
    with app.app_context():
        plant(1)
        name = here(1)
        keep("nas", 1, address="file:///mnt/nas", verified_at=START)
    shown = run("database", "show", "shop").stdout
    assert "  2 copies in 2 places" in shown
    assert f"{name}: here (not read back), nas (read back)\n" in shown
    assert "  2 copies in 2 places" in run("database", "list").stdout
    row = json.loads(run("database", "show", "shop", "--json").stdout)
    assert row["newestGood"]["copies"] == 2
    missing = run("database", "show", "nothing")
    assert (missing.exit_code, "no database is named" in missing.stderr) == (1, True)


def test_a_url_with_a_password_is_no_argument(run: Run):
    refused = run("database", "add", "crm", f"postgresql://u:{CANARY}@db2/crm")
    assert refused.exit_code == 1
    assert "other users of this machine can see" in refused.stderr
    assert CANARY not in refused.output
    asked = run("database", "add", "crm", input=f"postgresql://u:{CANARY}@db2/crm\n")
    assert (asked.exit_code, CANARY in asked.output) == (0, False)


def test_commands_take_the_named_database(run: Run, new_database: Callable[..., Database]):
    other = new_database()
    other.run("CREATE TABLE t AS SELECT g FROM generate_series(1, 7) g")
    assert run("database", "add", "crm", "-", input=f"{other.url}\n").exit_code == 0
    made = run("backup", "create", "--quiet", "--database", "crm")
    assert made.exit_code == 0, made.output
    assert other.name in run("backup", "list", "--database", "crm").stdout
    task = ("--task", "backup", "--cron", "0 3 * * *")
    assert run("schedule", "create", "nightly", *task, "--database", "crm").exit_code == 0
    assert "nightly" in run("schedule", "list", "--database", "crm").stdout
    assert "nightly" not in run("schedule", "list").stdout
    assert run("retention", "set", "--keep-last", "3", "--database", "crm").exit_code == 0
    shown = json.loads(run("retention", "show", "--json", "--database", "crm").stdout)
    assert shown["keepLast"] == 3
    drilled = run("backup", "drill", "--latest", "--database", "crm")
    assert drilled.exit_code == 0, drilled.output
    missing = run("backup", "create", "--database", "none")
    assert (missing.exit_code, "crm" in missing.stderr) == (1, True)
