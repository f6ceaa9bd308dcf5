"""Who loads a drill: a superuser where its server is kept apart, else a role without rights."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from app.config import ROOT, Settings
from app.models import Kind, Result
from app.postgres.throwaway import sandbox
from app.postgres.throwaway.sandbox import Isolation, Places
from app.programs import background
from app.services.backups import uploads
from app.services.restores import drill_server
from tests.attacks.archives import running
from tests.conftest import Database
from tests.servers import leave_out, only_by_root
from tests.services.drills.conftest import newest_proof
from tests.services.restores.conftest import attempt, backed_up, restored

_NOBODY = 65_534


@pytest.fixture
def without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    works = sandbox.Sandbox.works
    monkeypatch.setattr(
        sandbox.Sandbox,
        "works",
        lambda self: self.isolation is not Isolation.BUBBLEWRAP and works(self),
    )


@pytest.fixture
def settings(settings: Settings, passable_dir: Path) -> Iterator[Settings]:
    """An instance folder that an unprivileged account may pass."""
    folder = passable_dir / f"instance-{os.getpid()}"
    folder.mkdir(mode=0o711)
    yield replace(settings, instance_dir=folder)
    shutil.rmtree(folder)


@pytest.mark.usefixtures("without_bubblewrap", "context")
def test_without_bubblewrap_a_role_without_rights_loads(shop: Database, left_of_drills):
    shop.run("CREATE EXTENSION pg_trgm; CREATE VIEW seen AS SELECT * FROM orders")
    row = restored(backed_up(), Kind.DRILL)
    assert (row.result["differences"], row.result["missingRoles"]) == ([], [])
    assert row.result["server"].endswith("not isolated")
    assert left_of_drills() == []


@pytest.mark.usefixtures("without_bubblewrap")
def test_the_role_of_restores_is_not_asked_for_there(
    shop: Database, make_app: Callable[..., Flask]
):
    with make_app(restore_url="postgresql://nobody:knows@127.0.0.1:1/postgres").app_context():
        assert restored(backed_up(), Kind.DRILL).result["differences"] == []


@pytest.mark.usefixtures("without_bubblewrap", "context")
def test_without_bubblewrap_what_needs_a_superuser_is_not_possible_and_named(shop: Database):
    shop.run("CREATE EXTENSION pg_buffercache; CREATE PUBLICATION all_of_it FOR ALL TABLES")
    filename = backed_up()
    row = attempt(filename, Kind.DRILL)
    assert newest_proof(filename).result is Result.NOT_POSSIBLE
    assert "only a superuser can create, and drills are not isolated" in row.error_message
    assert "EXTENSION pg_buffercache" in row.error_detail
    assert "PUBLICATION all_of_it" in row.error_detail
    assert "bubblewrap" in row.error_hint


@pytest.mark.usefixtures("without_bubblewrap", "context")
def test_without_bubblewrap_nothing_of_a_dump_runs_programs(
    shop: Database, tmp_path: Path, passable_dir: Path
):
    mark = passable_dir / "pwned"
    (tmp_path / "theirs.dump").write_bytes(running(f"COPY (SELECT 1) TO PROGRAM 'id > {mark}';"))
    row = attempt(uploads.import_file(tmp_path / "theirs.dump").filename, Kind.DRILL)
    assert not row.is_completed
    assert newest_proof(row.filename).result is Result.NOT_POSSIBLE
    assert not mark.exists()


@only_by_root
def test_an_account_that_was_made_for_drills_loads_all_of_it_without_a_network(
    shop: Database,
    make_app: Callable[..., Flask],
    monkeypatch: pytest.MonkeyPatch,
    without_bubblewrap: None,
    left_of_drills,
):
    monkeypatch.setattr(sandbox, "ACCOUNT", "games")  # it is on every Debian
    shop.run("CREATE EXTENSION pg_buffercache; CREATE PUBLICATION all_of_it FOR ALL TABLES")
    with make_app().app_context():
        row = restored(backed_up(), Kind.DRILL)
        assert row.result["differences"] == []
        assert "without a network" in row.result["server"]
        assert left_of_drills() == []
    found = sandbox.find_sandbox()
    assert found.isolation is Isolation.ACCOUNT
    shown = found.output_of(Places(), Path("/bin/cat"), "/proc/net/dev", "/proc/self/status")
    assert [line.split(":")[0].strip() for line in shown.splitlines()[2:3]] == ["lo"]
    assert f"Uid:\t{found.account.uid}\t" in shown


@pytest.mark.usefixtures("isolated")
@only_by_root
def test_an_ordinary_user_drills_as_root_does(
    settings: Settings, make_app: Callable[..., Flask], shop: Database, sockets: Path
):
    python = python_for_everybody()
    shop.run("CREATE EXTENSION pg_buffercache; CREATE PUBLICATION all_of_it FOR ALL TABLES")
    home = settings.instance_dir
    with make_app(
        backup_dir=home / "backups", catalogue_url=f"sqlite:///{home}/c.db"
    ).app_context():
        filename = backed_up()
    for path in (home, *home.rglob("*"), sockets):
        os.chown(path, _NOBODY, _NOBODY)
    environment = {
        "PATH": os.environ["PATH"], "HOME": "/", "TMPDIR": str(sockets), "FLASK_APP": "wsgi",
        "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/shop", "SECRET_KEY": settings.secret_key,
        "BACKSTOP_INSTANCE_DIR": str(home), "BACKSTOP_BACKUP_DIR": f"{home}/backups",
        "BACKSTOP_CATALOGUE_URL": f"sqlite:///{home}/c.db",
        "PYTHONPATH": sysconfig.get_path("purelib"), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    become = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    flask = [*become, python, "-m", "flask"]

    def said(*words: str) -> str:
        ended = subprocess.run(
            [*flask, *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert "no difference" in said("backup", "drill", filename)
    (row,) = json.loads(said("restore", "list", "--json"))["restores"]
    assert row["result"]["server"].endswith("isolated by bubblewrap")
    assert list(sockets.iterdir()) == []
    assert list((home / "drills").iterdir()) == []


def python_for_everybody() -> str:
    """Ours, or the system's of the same version, where nobody else may run ours."""
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, system):
        at = Path(python).resolve()
        if at.exists() and all(each.stat().st_mode & 0o001 for each in (at, *at.parents)):
            return python
    return leave_out("no other account may run a Python of this version")


# The machine


def test_a_machine_without_these_programs_is_not_isolated(monkeypatch: pytest.MonkeyPatch):
    """As macOS."""
    monkeypatch.setattr(background.shutil, "which", lambda _: None)
    monkeypatch.setattr(sandbox.os, "geteuid", lambda: 1000)
    found = sandbox.find_sandbox()
    assert (found.isolation, found.argv(Places(), Path("/x"), "y")) == (Isolation.NONE, ["/x", "y"])


def test_what_lies_in_usr_is_hidden_there(tmp_path: Path):
    """A panel that was installed below /usr keeps its secrets all the same."""
    hidden = Path("/usr/share/doc")
    shown = sandbox.find_sandbox().argv(Places(hidden=(hidden, tmp_path)), Path("/bin/ls"))
    assert shown[shown.index(str(hidden)) - 1] == "--tmpfs"
    assert str(tmp_path) not in shown


def test_programs_whose_folder_would_show_the_panel_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "bin").mkdir()
    for name in ("initdb", "pg_ctl", "postgres"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/lib/postgresql/15/bin/{name}")
    places = Places(hidden=(tmp_path / "instance",))
    found = sandbox.find_sandbox()
    assert drill_server.list_programs(found, places, tmp_path / "bin") == []
