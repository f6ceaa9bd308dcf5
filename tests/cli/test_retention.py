"""flask retention, and flask backup prune, pin and unpin."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from tests.api.test_downloads import dump_of
from tests.api.test_retention import lying_in_a_store, panel, proven  # noqa: F401 - a fixture

Run = Callable[..., Result]


@pytest.fixture
def run(panel: Flask) -> Run:  # noqa: F811
    cli = panel.test_cli_runner()
    return lambda *words, **more: cli.invoke(args=list(words), **more)


def test_the_policy_is_shown_and_changed_by_what_is_named(run: Run):
    assert run("retention", "show").output == "There is no retention policy: nothing is removed.\n"
    words = ("--keep-daily", "7", "--keep-within", "30d", "--max-total-size", "1.5 TiB")
    told = run("retention", "set", *words).output.splitlines()
    assert told[0] == "keep daily 7, keep within 30d, at most 1.5 TiB; in UTC"
    assert told[1].startswith(
        "It removes nothing automatically until it is confirmed; then it applies"
    )
    assert told[2] == "0 backups (0 Bytes) would be removed now."
    assert told[3] == "Confirm it: flask retention confirm"
    run("retention", "set", "--keep-daily", "0", "--time-zone", "Europe/Berlin")
    shown = json.loads(run("retention", "show", "--json").output)
    assert (shown["keepDaily"], shown["keepWithin"], shown["maxTotalSize"], shown["timeZone"]) == (
        None, "30d", 3 * 2**39, "Europe/Berlin",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--keep-last", "-1"), 1), (("--keep-last", "x"), 2), (("--keep-within", "soon"), 2),
        (("--max-total-size", "much"), 2), (("--time-zone", "Mars"), 1),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told(run: Run, words: tuple[str, str], status: int):
    result = run("retention", "set", *words)
    assert (result.exit_code, "Error: " in result.stderr) == (status, True)


def test_a_dry_run_tells_and_a_prune_removes(run: Run, panel: Flask):  # noqa: F811
    newest, old = proven(panel, 0.01), proven(panel, 1)
    run("retention", "set", "--keep-last", "1")
    told = run("backup", "prune", "--dry-run").output.splitlines()
    assert told[0].startswith(f"keep    {newest}")
    assert told[0].endswith("last; the newest good one")
    assert told[1].startswith(f"REMOVE  {old}")
    total = "1 would be kept, 10.0 KiB; 1 would be removed, 10.0 KiB."
    assert told[2:] == ["keep last 1; in UTC", total]
    assert len(json.loads(run("backup", "prune", "--dry-run", "--json").output)["removing"]) == 1
    asked = run("backup", "prune", input="n\n")
    assert (asked.exit_code, f"  {old}\n" in asked.output) == (1, True)
    assert "Remove these backups of shop? [y/N]" in asked.output
    assert dump_of(panel, old).exists()
    assert run("backup", "prune", "--yes").output == f"{old}\tremoved\n1 removed, 10.0 KiB.\n"
    assert json.loads(run("backup", "prune", "--json").output)["removed"] == []
    acts = json.loads(run("audit", "list", "--action", "retention.prune", "--json").output)
    assert [each["detail"] for each in acts["entries"]] == [
        "nothing to remove", f"removed 1: {old}", "not confirmed", "dry run", "dry run",
    ]  # fmt: skip


def test_a_policy_is_confirmed_after_a_look_at_what_goes(run: Run, panel: Flask):  # noqa: F811
    _, old = proven(panel, 0.01), proven(panel, 1)
    set_ = run("retention", "set", "--keep-last", "1").output
    assert f"1 backup (10.0 KiB) would be removed now.\n  {old}\n" in set_
    asked = run("retention", "confirm", input="n\n")
    assert (asked.exit_code, old in asked.output) == (1, True)
    assert json.loads(run("retention", "show", "--json").output)["confirmedAt"] is None
    confirmed = run("retention", "confirm", "--yes")
    assert confirmed.output == "It applies after each scheduled backup; none is scheduled now.\n"
    assert "until it is confirmed" not in run("retention", "show").output
    assert dump_of(panel, old).exists()


def test_a_pinned_backup_is_deleted_only_after_it_was_unpinned(run: Run, panel: Flask):  # noqa: F811
    last, pinned = proven(panel, 0.01), proven(panel, 1)
    assert run("backup", "pin", pinned).exit_code == 2
    assert (
        run("backup", "pin", pinned, "--reason", "audit").output == f"{pinned} has been pinned.\n"
    )
    assert "[pinned: audit]" in run("backup", "list", "--search", "audit").output
    for option in ("--yes", "--yes-really"):
        refused = run("backup", "delete", pinned, option)
        assert (refused.exit_code, "unpin it first" in refused.stderr) == (1, True)
    assert "unpinned" in run("backup", "unpin", pinned).output
    assert run("backup", "delete", pinned, "--yes").exit_code == 0
    asked = run("backup", "delete", last, input="n\n")
    assert (asked.exit_code, "This is the last good backup of shop." in asked.output) == (1, True)
    assert run("backup", "delete", last, "--yes").output == f"{last} has been deleted.\n"


def test_the_policy_of_a_store_is_shown_set_confirmed_and_carried_out(
    panel: Flask,  # noqa: F811
    run: Run,
    tmp_path: Path,
):
    names = lying_in_a_store(panel, tmp_path)
    local = run("retention", "show").output
    told = run("retention", "set", "--store", "nas", "--keep-last", "1").output.splitlines()
    assert "then it applies after each copy to nas of a scheduled backup" in told[1]
    assert told[2:4] == [
        "2 backups (20 Bytes) would be removed from nas now.", f"  {names[1]}",
    ]  # fmt: skip
    assert told[-1] == "Confirm it: flask retention confirm --store nas"
    assert run("retention", "show").output == local
    asked = run("retention", "confirm", "--store", "nas", input="n\n")
    assert "Let each copy to nas of a scheduled backup remove" in asked.output
    assert run("retention", "confirm", "--store", "nas", "--yes").exit_code == 0
    shown = json.loads(run("retention", "show", "--store", "nas", "--json").output)
    assert (shown["store"], shown["keepLast"], bool(shown["confirmedAt"])) == ("nas", 1, True)
    dry = run("backup", "prune", "--store", "nas", "--dry-run").output
    assert "2 would be removed, 20 Bytes." in dry
    kept = run("backup", "prune", "--store", "nas", input="n\n")
    assert "Remove these copies of shop from nas?" in kept.output
    done = run("backup", "prune", "--store", "nas", "--yes").output
    assert done.splitlines()[-1] == "2 removed, 20 Bytes."
    assert names[0] in run("copy", "list").output
    assert names[1] not in run("copy", "list").output
    missing = run("retention", "show", "--store", "nothing")
    assert (missing.exit_code, "no store is named" in missing.stderr) == (1, True)
