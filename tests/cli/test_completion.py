"""What a shell completes."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from flask import Flask
from flask.cli import FlaskGroup, ScriptInfo

from app import create_app
from app.config import ROOT, Settings
from app.services.databases.service import add_database
from tests.cli.test_panel import Home
from tests.conftest import NO_SERVER
from tests.forks import flask
from tests.services.health.test_figures import keep, plant

Complete = Callable[..., list[str]]


def completing(app: Flask) -> Complete:
    """As `flask`, without the shell: the last word is the one that was begun."""
    info = ScriptInfo(create_app=lambda: app)
    shell = ShellComplete(FlaskGroup(), {"obj": info}, "flask", "_FLASK_COMPLETE")
    return lambda *words: [
        item.value for item in shell.get_completions(list(words[:-1]), words[-1])
    ]


@pytest.fixture
def complete(app: Flask) -> Complete:
    with app.app_context():
        add_database("crm", NO_SERVER, by="ann")
        plant(1)
        plant(2)
        keep("nas", 1, address="file:///mnt/nas")
    return completing(app)


def test_names_of_backups_are_completed(complete: Complete):
    both = complete("backup", "show", "")
    assert len(both) == 2
    assert all(name.endswith(".dump") for name in both)
    assert complete("backup", "restore", both[0][:-6]) == [both[0]]
    assert complete("copy", "verify", both[1]) == [both[1]]
    assert complete("backup", "show", ".dump") == []  # it is searched for, and no beginning


def test_names_of_databases_and_stores_are_completed(complete: Complete):
    assert complete("database", "show", "c") == ["crm"]
    assert complete("backup", "create", "--database", "cr") == ["crm"]
    assert complete("store", "test", "n") == ["nas"]
    assert complete("retention", "show", "--store", "") == ["nas"]


def test_commands_are_completed(complete: Complete):
    assert "backup" in complete("ba")
    assert "create" in complete("backup", "cr")


def test_without_a_catalogue_nothing_is_completed_or_made(settings: Settings, tmp_path: Path):
    path = tmp_path / "none.db"
    app = create_app(replace(settings, catalogue_url=f"sqlite:///{path}"))
    assert completing(app)("backup", "show", "") == []
    assert not path.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str, tmp_path: Path):
    environment = Home(tmp_path).environment(_FLASK_COMPLETE=f"{shell}_source")
    printed = flask([], env=environment, timeout=60)
    assert printed.returncode == 0
    assert f"_FLASK_COMPLETE={shell}_complete" in printed.stdout


def test_bash_completes_a_command(tmp_path: Path):
    home = Home(tmp_path)
    script = flask([], env=home.environment(_FLASK_COMPLETE="bash_source"), timeout=60).stdout
    typed = "COMP_WORDS=(flask backup cr) COMP_CWORD=2\n_flask_completion flask\n"
    environment = home.environment()
    environment["PATH"] = f"{sys.prefix}/bin:{environment['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", f'{script}\n{typed}echo "${{COMPREPLY[@]}}"'],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == ("create\n", "")
