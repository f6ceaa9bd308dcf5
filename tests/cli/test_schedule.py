"""flask schedule in a terminal."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from tests.api.test_schedules import FIRING, ROW

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    cli = app.test_cli_runner()
    return lambda *words, **more: cli.invoke(args=["schedule", *words], **more)


def test_they_are_made_edited_paused_run_and_deleted(run: Run):
    words = ("--task", "backup", "--cron", "0  3 * * *", "--timezone", "Asia/Kathmandu")
    result = run("create", "nightly", *words, "--notes", "{schedule}")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "nightly has been created: At 03:00 every day."
    assert len(lines) == 6
    assert " 21:15:00 UTC  " in lines[1]
    assert lines[1].endswith(" 03:00 +0545")
    result = run("list")
    assert result.stdout.startswith(
        "nightly  backup  At 03:00 every day, Asia/Kathmandu  next 20"
    ), result.output

    words = ("--rename", "weekly", "--cron", "5 4 * * 1", "--task", "drill")
    assert run("edit", "nightly", *words).stdout == "weekly has been saved.\n"
    assert run("pause", "weekly").stdout == "weekly has been paused.\n"
    assert run("list").stdout == ("weekly  drill  At 04:05 on Monday, Asia/Kathmandu  paused\n")
    assert run("resume", "weekly").stdout == "weekly has been resumed.\n"
    result = run("run", "weekly")
    assert result.stdout == "weekly will run within 10 seconds.\n"
    assert result.stderr == "No worker runs: it waits for one.\n"
    shown = run("show", "weekly").stdout.splitlines()
    assert shown[:5] == [
        "name: weekly", "task: drill", "cron: 5 4 * * 1 (At 04:05 on Monday)",
        "time zone: Asia/Kathmandu", "notes: {schedule}",
    ]  # fmt: skip
    assert len(shown) == 12
    assert "UTC: waiting, attempts: 0; requested by " in shown[-1]
    assert "  last 20" in run("list").stdout

    (row,) = json.loads(run("list", "--json").stdout)["schedules"]
    assert set(row) == ROW
    details = json.loads(run("show", "weekly", "--json").stdout)
    assert set(details) == ROW | {"nextTimes", "firings"}
    assert details["firings"] == [details["lastFiring"]]
    assert set(details["lastFiring"]) == FIRING

    assert run("delete", "weekly", input="n\n").exit_code == 1
    assert run("delete", "weekly", "--yes").stdout == "weekly has been deleted.\n"
    assert run("list").stdout == ""


def test_the_url_of_a_monitor_comes_from_a_file(run: Run, tmp_path: Path):
    words = ("nightly", "--task", "backup", "--cron", "0 3 * * *", "--heartbeat-url-file")
    assert run("create", *words, "-", input="ftp://canary\n").exit_code == 1
    assert run("create", *words, "-", input="https://hc-ping.com/canary\n").exit_code == 0
    shown = run("show", "nightly").output
    assert "heartbeat: sent to a monitor" in shown
    assert "canary" not in shown + run("show", "nightly", "--json").output
    both = ("edit", "nightly", "--no-heartbeat", "--heartbeat-url-file", "-")
    assert run(*both, input="https://hc-ping.com/x\n").exit_code == 2
    assert run("edit", "nightly", "--no-heartbeat").exit_code == 0
    assert "heartbeat" not in run("show", "nightly").output
    (tmp_path / "url").write_text("https://hc-ping.com/other\n")
    assert run("edit", "nightly", *words[-1:], str(tmp_path / "url")).exit_code == 0
    assert "heartbeat" in run("show", "nightly").output
    (tmp_path / "url").write_bytes(b"\xff")
    wrong = run("edit", "nightly", *words[-1:], str(tmp_path / "url"))
    assert (wrong.exit_code, "cannot be read" in wrong.output) == (2, True)


def test_next_keeps_nothing(run: Run):
    lines = run("next", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin").stdout.splitlines()
    assert lines[0] == "At 02:30 every day"
    assert len(lines) == 6
    told = json.loads(run("next", "--cron", "*/5 * * * *", "--json").stdout)
    assert told["words"] == "Every fifth minute of every hour"
    assert len(told["nextTimes"]) == 5
    assert run("list").stdout == ""


def test_what_is_wrong_is_told_and_exits_with_1(run: Run):
    made = ("--task", "scrub", "--cron", "0 3 * * *", "--paused", "--json")
    created = json.loads(run("create", "there", *made).stdout)
    assert (created["enabled"], created["nextTimes"], created["nextDueAt"]) == (False, [], None)
    task = ("--task", "backup")
    for words, told in (
        (("create", "there", *made), 'Error: there is a schedule "there" already'),
        (("create", "a", *task, "--cron", "x"), "Error: a cron expression has five fields"),
        (("create", "a\tb", *task, "--cron", "0 3 * * *"), "Error: the name must have"),
        (("next", "--cron", "99 3 * * *"), "Error: not a valid cron expression"),
        (("next", "--cron", "0 3 * * *", "--timezone", "x"), "Error: there is no time zone 'x'"),
        (("edit", "there", "--notes", "x" * 2001), "Error: notes must not be longer"),
        *(((word, "nobody"), "Error: no such schedule") for word in ("show", "edit", "pause",
                                                                    "resume", "run", "delete")),
    ):  # fmt: skip
        result = run(*words)
        assert (result.exit_code, told in result.stderr) == (1, True), result.output
    for words in (("create", "a", "--task", "x", "--cron", "x"), ("create", "a"), ("next",)):
        assert run(*words).exit_code == 2


def test_sql_of_a_restore_comes_from_a_file(run: Run, shop_template: str):
    words = ("--task", "restore", "--cron", "0 4 1 1 *", "--target")
    made = run("create", "staging", *words, "shop_staging", "--sql-file", "-", input="a;\nb\n")
    assert made.exit_code == 0, made.output
    assert "target: shop_staging, keep last 1\nSQL:\n  a;\n  b\n" in run("show", "staging").stdout
    assert run("edit", "staging", "--keep-last", "3").exit_code == 0
    assert "target: shop_staging, keep last 3\nSQL:\n  a;\n  b\n" in run("show", "staging").stdout
    refused = run("create", "other", *words, shop_template)
    assert "exists already" in refused.output
    assert run("create", "other", *words, shop_template, "--replace", shop_template).exit_code == 0
