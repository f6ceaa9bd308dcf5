"""flask doctor, as people and monitoring use it."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from app.config import ROOT
from app.extensions import db
from app.models import Trigger
from app.services.backups import service as backups
from app.services.jobs import workers
from tests.conftest import Database


def run(app: Flask, *words: str) -> Result:
    return app.test_cli_runner().invoke(args=["doctor", *words])


@pytest.fixture
def well(app: Flask) -> Flask:
    """A panel with nothing to complain of."""
    with app.app_context():
        backups.create_backup(trigger=Trigger.CLI, created_by="tester")
        workers.beat()
        app.extensions["backstop.settings"].backup_dir.chmod(0o700)
    return app


def test_all_is_well_exits_0_with_a_line_for_each_subject(well: Flask):
    result = run(well)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 21
    assert all(line.startswith("ok       ") for line in lines)
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    column = lines[0].index("PostgreSQL")
    assert {line[column - 1] for line in lines} == {" "}
    assert " " not in {line[column] for line in lines}


def test_a_warning_exits_0_and_its_hint_is_indented_below(app: Flask):
    result = run(app)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    number = next(n for n, line in enumerate(lines) if " newest backup " in line)
    assert lines[number].startswith("warning  newest backup")
    column = lines[number].index("there is no good backup")
    assert lines[number + 1] == " " * column + "flask backup create makes one."


def test_a_problem_exits_1_and_is_told_on_standard_output(make_app: Callable[..., Flask]):
    result = run(make_app(database_url="postgresql://ann:s3cret@127.0.0.1:1/shop"))
    assert result.exit_code == 1
    assert result.stdout.startswith("problem  server  ")
    assert result.stderr == ""
    assert "s3cret" not in result.output


def test_json_is_one_object(well: Flask):
    result = run(well, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert set(told) == {"healthy", "findings"}
    assert told["healthy"] is True
    assert {"subject", "state", "told", "hint"} == set().union(*told["findings"])
    assert {each["state"] for each in told["findings"]} == {"ok"}


def test_json_with_a_problem_exits_1(make_app: Callable[..., Flask]):
    result = run(make_app(database_url="postgresql://ann@127.0.0.1:1/shop"), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["healthy"] is False
    assert told["findings"][0]["state"] == "problem"


def test_help_says_what_it_does(app: Flask):
    result = run(app, "--help")
    assert result.exit_code == 0
    assert "Exits with 1 if there is a problem" in result.output


@pytest.mark.parametrize("damage", ["missing", "not a catalogue", "empty", "a folder"])
def test_a_catalogue_in_whatever_state_is_a_line_and_stays_as_it_is(app: Flask, damage: str):
    with app.app_context():
        db.engine.dispose()
    file = app.extensions["backstop.settings"].instance_dir / "catalogue.db"
    for each in file.parent.glob("catalogue.db*"):
        each.unlink()
    if damage == "not a catalogue":
        file.write_bytes(b"x" * 5000)
    elif damage == "empty":
        file.touch()
    elif damage == "a folder":
        file.mkdir()
    result = run(app)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "problem  " in result.stdout
    assert "Traceback" not in result.output
    assert file.exists() is (damage != "missing")


def real(folder: Path, **environment: str) -> dict[str, str]:
    return os.environ | {
        "BACKSTOP_INSTANCE_DIR": str(folder / "instance"),
        "BACKSTOP_BACKUP_DIR": str(folder / "backups"),
        **environment,
    }


COMMAND = [sys.executable, "-m", "flask", "--app", str(ROOT / "wsgi.py"), "doctor"]


def test_in_a_fresh_checkout_it_makes_no_catalogue_and_starts_no_server(tmp_path: Path):
    environment = real(tmp_path)
    environment.pop("DATABASE_URL", None)
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout.startswith("warning  server  ")
    assert "the embedded PostgreSQL server is not running" in done.stdout
    assert done.stderr == ""
    names = {path.name for path in (tmp_path / "instance").iterdir()}
    assert names <= {"queue.db", "queue.db-wal", "queue.db-shm", "secret_key"}
    assert not (tmp_path / "backups").exists()


def test_a_terminal_sees_colours(tmp_path: Path, shop: Database):
    ours, theirs = pty.openpty()
    environment = real(tmp_path, DATABASE_URL=shop.url, TERM="xterm")
    environment.pop("NO_COLOR", None)
    done = subprocess.run(COMMAND, env=environment, stdout=theirs, timeout=60, check=False)
    os.close(theirs)
    told = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 1
    assert "\x1b[32mok     \x1b[0m  server" in told
    assert "\x1b[31mproblem\x1b[0m  catalogue" in told
