"""flask notifier and flask alarm in a terminal."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from tests.listeners import listening

Run = Callable[..., Result]


@pytest.fixture
def run(make_app: Callable[..., Flask]) -> Run:
    cli = make_app(alarm_free_space=2**60).test_cli_runner()
    return lambda *words, **more: cli.invoke(args=list(words), **more)


def test_they_are_made_edited_tested_and_deleted(run: Run, tmp_path: Path):
    with listening() as right:
        result = run("notifier", "create", "ops", input=f"{right.url}\n")
        assert "ops has been created: json://127.0.0.1 (JSON).\n" in result.output
        assert "canary" not in result.output
        (file := tmp_path / "url").write_text(f"{right.url}\n")
        words = ("--url-file", str(file), "--fact", "disk-low", "--json")
        made = json.loads(run("notifier", "create", "b", *words).stdout)
        assert (made["facts"], made["enabled"]) == (["disk-low"], True)
        words = ("--rename", "a", "--every-alarm", "--off", "--title", "$title", "--url-file", "-")
        assert run("notifier", "edit", "b", *words, input=right.url).exit_code == 0
        assert run("notifier", "list").stdout == (
            "a    off  json://127.0.0.1 (JSON)  every alarm\n"
            "ops  on   json://127.0.0.1 (JSON)  every alarm\n"
        )
        assert run("notifier", "test", "ops").stdout == "ops has accepted a test message.\n"
        assert right.titles == ["Backstop: a test"]

        # Where neither worker nor web runs, cron looks.
        result = run("alarm", "look")
        assert (result.exit_code, result.stdout) == (
            1, "disk-low: The disk of the backups is nearly full\n",
        )  # fmt: skip
        assert right.titles[1:] == ["Backstop: The disk of the backups is nearly full"]
        assert run("alarm", "look").exit_code == 1
        assert len(right.titles) == 2  # it is told once
    (line,) = run("alarm", "list", "--open").stdout.splitlines()
    assert line.startswith("disk-low  open  ")
    assert line.endswith("  The disk of the backups is nearly full")
    assert json.loads(run("alarm", "list", "--json").stdout)["alarms"][0]["kind"] == "disk-low"
    assert run("notifier", "delete", "a", input="n\n").exit_code == 1
    assert run("notifier", "delete", "a", "--yes").stdout == "a has been deleted.\n"


def test_what_is_wrong_is_told_and_exits_with_1(run: Run):
    for words, typed, told in (
        (("create", "a"), "canary://x\n", "Error: not a valid URL of a notifier"),
        (("create", "a\tb"), "json://h\n", "Error: the name must have"),
        (("test", "nobody"), "", "Error: no such notifier"),
        (("edit", "nobody", "--off"), "", "Error: no such notifier"),
    ):
        result = run("notifier", *words, input=typed)
        assert (result.exit_code, told in result.stderr) == (1, True), result.output
        assert "canary" not in result.output
