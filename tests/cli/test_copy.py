"""flask copy."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from app.encryption import make_identity
from tests.test_auditing import entries

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    cli = app.test_cli_runner()
    return lambda *words, **more: cli.invoke(args=list(words), **more)


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    folder.mkdir()
    return folder


def made(run: Run) -> str:
    return str(json.loads(run("backup", "create", "--quiet", "--json").stdout)["filename"])


def test_a_backup_is_copied_verified_lost_fetched_and_its_copy_removed(
    app: Flask, run: Run, nas: Path
):
    folder = app.extensions["backstop.settings"].backup_dir
    name = made(run)
    assert run("store", "add", "nas", f"file://{nas}").exit_code == 0
    assert "There are no copies." in run("copy", "list").stderr
    done = run("copy", "make", name, "nas")
    assert done.stdout.startswith(f"{name} is in nas ("), done.output
    assert (nas / name).read_bytes() == (folder / name).read_bytes()
    assert run("copy", "make", name, "nas").stdout == done.stdout  # it is there already
    assert "read back 2" in run("copy", "list").stdout
    (row,) = json.loads(run("copy", "list", "--backup", name, "--json").stdout)["copies"]
    assert (row["store"], row["status"], row["loss"]) == ("nas", "COMPLETED", None)
    assert run("copy", "verify", name).stdout == f"The copy of {name} is whole.\n"

    whole = (folder / name).read_bytes()
    assert "is here already" in run("copy", "fetch", name).stderr
    (folder / name).unlink()
    fetched = run("copy", "fetch", name)
    assert fetched.stdout == f"{name} is here again: flask backup restore {name}\n"
    assert (folder / name).read_bytes() == whole

    (nas / name).write_bytes(whole[:-1])
    damaged = run("copy", "verify", name)
    assert (damaged.exit_code, damaged.stderr) == (
        1,
        f"The copy is damaged: the copy of {name} in nas was changed.\n",
    )
    assert "DAMAGED: the copy of" in run("copy", "list", "--store", "nas").stdout
    assert f"there is no good copy of {name}" in run("copy", "fetch", name).stderr
    assert run("copy", "remove", name, "nas", input="n\n").exit_code == 1
    assert run("copy", "remove", name, "nas", "--yes").exit_code == 0
    assert [path.name for path in nas.iterdir() if path.is_file()] == ["backstop-panel.json"]
    acts = {entry["action"] for entry in entries(app)}
    assert {"copy.create", "copy.verify", "copy.fetch", "copy.delete"} <= acts


def test_an_encrypted_copy_is_fetched_with_the_file_of_its_key(
    app: Flask, run: Run, nas: Path, tmp_path: Path
):
    folder, identity = app.extensions["backstop.settings"].backup_dir, make_identity()
    name, key = made(run), tmp_path / "key.txt"
    key.write_text(f"# made for the test\n{identity.secret}\n")
    assert run("store", "add", "nas", f"file://{nas}", "--recipient", identity.recipient.key)
    assert run("copy", "make", name, "nas").exit_code == 0
    assert ", encrypted, read back" in run("copy", "list").stdout
    checksum = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / name).unlink()
    without = run("copy", "fetch", name)
    assert (without.exit_code, "the copy is encrypted" in without.stderr) == (1, True)
    wrong = run("copy", "fetch", name, "--identity", "-", input=make_identity().secret)
    assert (wrong.exit_code, "AGE-SECRET" in wrong.output) == (1, False)
    assert run("copy", "fetch", name, "--identity", str(key)).exit_code == 0
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum


@pytest.mark.parametrize("name", ["../../etc/passwd", "backup_x.dump", "", "x" * 999])
def test_what_is_not_there_is_named(run: Run, nas: Path, name: str):
    assert run("store", "add", "nas", f"file://{nas}").exit_code == 0
    for words in (("make", name, "nas"), ("verify", name), ("fetch", name), ("remove", name, "x")):
        refused = run("copy", *words)
        assert refused.exit_code == 1
        assert "Error" in refused.stderr
    assert "no copy has this id" in run("copy", "cancel", name or "x").stderr


def test_copies_are_encrypted_anew_for_new_recipients(
    app: Flask, run: Run, nas: Path, tmp_path: Path
):
    folder = app.extensions["backstop.settings"].backup_dir
    assert run("store", "add", "nas", f"file://{nas}").exit_code == 0
    refused = run("copy", "reencrypt", "nas")
    assert (refused.exit_code, "copies in nas are not encrypted" in refused.stderr) == (1, True)
    names = [made(run), made(run)]
    run("copy", "make", names[0], "nas")
    key = tmp_path / "key.txt"
    key.write_text(run("store", "recovery-key", "nas").stdout)
    run("copy", "make", names[1], "nas")
    assert run("store", "drill-key", "nas").stdout == (
        "The panel reads later copies in nas; older ones: flask copy reencrypt nas\n"
    )
    without = run("copy", "reencrypt", "nas", "--quiet")
    assert (without.exit_code, without.stdout) == (
        1,
        f"{names[0]} is encrypted anew.\n1 encrypted anew, 1 not.\n",
    )
    assert f"{names[1]}: " in without.stderr
    assert "no private key fits" in without.stderr
    done = run("copy", "reencrypt", "nas", "--identity", str(key), "--quiet")
    assert (done.exit_code, done.stdout) == (
        0,
        f"{names[1]} is encrypted anew.\n1 encrypted anew, 0 not.\n",
    )
    again = run("copy", "reencrypt", "nas", "--backup", names[1])
    assert again.stdout == "0 encrypted anew, 0 not.\n"
    for name in names:  # the panel has a key now
        whole = (folder / name).read_bytes()
        (folder / name).unlink()
        assert run("copy", "fetch", name, "--quiet").exit_code == 0
        assert (folder / name).read_bytes() == whole
    assert run("store", "drill-key", "nas", "--forget").exit_code == 0
    assert run("copy", "reencrypt", "nas", "--identity", str(key), "--quiet").exit_code == 0
    (folder / names[0]).unlink()
    assert "the copy is encrypted" in run("copy", "fetch", names[0], "--quiet").stderr
    assert entries(app)[-1]["action"] == "copy.fetch"
