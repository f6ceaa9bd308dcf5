"""flask store."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from app.encryption import parse_identity
from app.services.stores.ownership import MARKER
from tests.test_auditing import entries

Run = Callable[..., Result]
CANARY = "canary-secret"
AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


@pytest.fixture
def run(app: Flask) -> Run:
    cli = app.test_cli_runner()
    return lambda *words, **more: cli.invoke(args=["store", *words], **more)


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    folder.mkdir()
    return folder


def test_a_store_is_added_listed_changed_and_removed(run: Run, nas: Path):
    added = run("add", "nas", f"file://{nas}", "--read-back", "sample", "--limit", "10MB")
    assert added.exit_code == 0, added.output
    assert added.stdout.startswith(f"nas has been added: file://{nas}.\nIts copies are not encr")
    line = f"nas  active  file://{nas}  0 copies  0 Bytes  not encrypted\n"
    assert run("list").stdout == line
    shown = run("show", "nas").stdout
    facts = "credentials: none stored\ndatabases: all\nread back: sample\nlimit: 10MB\n"
    assert shown == f"{line}{facts}catalogue: not exported\n"
    edited = run("edit", "nas", "--rename", "disk", "--recipient", AGE, "--limit", "off")
    assert edited.stdout == "disk has been saved.\n"
    assert f"recipient: {AGE}\nread back: sample\nlimit: none\n" in run("show", "disk").stdout
    assert run("edit", "disk", "--not-encrypted").exit_code == 0
    assert run("pause", "disk").stdout == "disk is paused: nothing is copied to it.\n"
    assert json.loads(run("list", "--json").stdout)["stores"][0]["state"] == "paused"
    assert run("resume", "disk").exit_code == 0
    refused = run("remove", "disk", input="n\n")
    assert (refused.exit_code, "0 copies stay" in refused.stdout) == (1, True)
    removed = run("remove", "disk", "--yes")
    assert removed.stdout == f"disk has been removed. 0 copies stay at file://{nas}.\n"
    assert (nas / MARKER).exists()
    assert run("list").stdout == ""


def test_credentials_come_from_a_file_or_standard_input(app: Flask, run: Run, tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text(f"access_key_id=AKIA\nsecret_access_key={CANARY}\n")
    url = "s3://bucket/prefix"
    outputs = [
        run("add", "s3", url, "--untested", "--credentials-from", str(keys), "--json"),
        run("edit", "s3", "--untested", "--credentials-from", "-", input=keys.read_text()),
        run("show", "s3"),
        run("edit", "s3", "--untested", "--credentials-from", "-", input=CANARY),
        run("add", "s4", f"s3://AKIA:{CANARY}@bucket", "--untested"),
        run("test", "--url", "file:///none", "--credentials-from", str(keys)),
        run("edit", "s3", "--untested", "--no-credentials"),
    ]
    assert [output.exit_code for output in outputs] == [0, 0, 0, 1, 1, 1, 0]
    assert "credentials: stored" in outputs[2].stdout
    assert "contains credentials" in outputs[4].stderr
    assert CANARY not in "".join(output.output for output in outputs) + json.dumps(entries(app))
    assert "credentials: none stored" in run("show", "s3").stdout


def test_a_store_is_tested_saved_or_not(run: Run, nas: Path):
    passed = run("test", "--url", f"file://{nas}")
    assert passed.exit_code == 0, passed.output
    assert "passed  read back" in passed.stdout
    assert run("add", "nas", f"file://{nas}").exit_code == 0
    assert run("test", "nas").exit_code == 0
    nas.rename(nas.with_name("away"))
    failed = run("test", "nas", "--json")
    assert (failed.exit_code, json.loads(failed.stdout)["passed"]) == (1, False)
    assert run("test", "nas", "--url", "file:///x").exit_code == 2


def test_a_wrong_folder_is_refused_at_once_unless_untested(run: Run, tmp_path: Path):
    refused = run("add", "nas", f"file://{tmp_path}/none")
    assert (refused.exit_code, "Is it mounted?" in refused.stderr) == (1, True)
    assert run("add", "nas", f"file://{tmp_path}/none", "--untested").exit_code == 0


def test_another_panel_is_named(run: Run, nas: Path):
    (nas / MARKER).write_text(json.dumps({"panel": "theirs", "host": "db2"}))
    refused = run("add", "nas", f"file://{nas}")
    assert "the store belongs to another panel on db2" in refused.stderr
    assert run("add", "nas", f"file://{nas}", "--take-over").exit_code == 0


def test_a_limit_and_a_database_that_cannot_be_meant_are_refused(run: Run, nas: Path):
    refused = run("add", "nas", f"file://{nas}", "--limit", "fast")
    assert "--limit must be a rate such as 10MB" in refused.stderr
    refused = run("add", "nas", f"file://{nas}", "--database", "none")
    assert "no database is named 'none'" in refused.stderr
    assert run("list").stdout == ""


def test_a_recovery_key_is_printed_once_and_kept_nowhere(app: Flask, run: Run, nas: Path):
    run("add", "nas", f"file://{nas}")
    made = run("recovery-key", "nas")
    assert made.exit_code == 0, made.output
    identity = parse_identity(made.stdout)
    assert f"recipient: {identity.recipient.key}" in run("show", "nas").stdout
    settings = app.extensions["backstop.settings"]
    kept = b"".join(
        path.read_bytes() for path in settings.instance_dir.rglob("*") if path.is_file()
    )
    secret = identity.secret.encode()
    assert (secret in kept, identity.recipient.key.encode() in kept) == (False, True)
    assert entries(app)[-1]["action"] == "store.recovery_key"
