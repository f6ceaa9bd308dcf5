"""What Linux has and others lack is asked in one place, and its absence breaks nothing."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from app import host
from app.config import ROOT
from app.models import Trigger
from app.programs.command import LAUNCH
from app.services.backups import service as backups
from app.services.jobs import claims

#: They may speak of other systems: the first is the one place, the second runs by itself, the
#: last is about programs that Linux alone has.
APART = {"host.py", "launch.py", "sandbox.py"}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A system without /proc."""
    cached = (host.boot_id, host.pid_namespace, claims.runner)
    monkeypatch.setattr(host, "PROC", tmp_path / "none")
    for each in cached:
        each.cache_clear()
    yield
    monkeypatch.undo()
    for each in cached:
        each.cache_clear()


def test_one_module_asks_what_differs_between_systems():
    asks = re.compile(
        r"^\s*(?:import|from) (fcntl|resource|pwd|grp)\b|\bprctl\(|/proc/", re.MULTILINE
    )
    found = [
        path.name
        for path in (ROOT / "app").rglob("*.py")
        if path.name not in APART and asks.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.usefixtures("elsewhere")
def test_processes_are_known_without_proc():
    assert host.boot_id().isdigit()
    assert host.pid_namespace() == "-"
    assert host.start_of(os.getpid()) == host.start_of(os.getpid()) != ""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        process = claims.identity(sleeper.pid)
        assert not claims.is_gone(process)
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert host.start_of(sleeper.pid) == ""  # a zombie
    assert claims.is_gone(process)


@pytest.mark.usefixtures("context", "elsewhere")
def test_a_backup_is_made_without_proc(app: Flask):
    backup = backups.create_backup(trigger=Trigger.CLI)
    assert backup.is_completed, backup.error_detail
    assert backup.created_by == host.own_user()


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_a_limit_of_memory_that_the_system_refuses_stops_linux_alone(platform: str):
    refusing = (
        "import resource, runpy, sys\n"
        "sys.platform = sys.argv[1]\n"
        "real = resource.setrlimit\n"
        "def refuse(kind, limits):\n"
        "    if kind == resource.RLIMIT_AS: raise ValueError('too large')\n"
        "    real(kind, limits)\n"
        "resource.setrlimit = refuse\n"
        "sys.argv = sys.argv[2:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    order = [LAUNCH, str(os.getpid()), str(2**33), "/bin/echo", "started"]
    ended = subprocess.run(
        [sys.executable, "-c", refusing, platform, *order],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout == "started\n") is (platform == "darwin"), ended.stderr


@pytest.mark.skipif(not host.PROC.exists(), reason="threads have no priorities here")
def test_a_thread_yields_to_others_alone():
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def after_yielding() -> int:
        host.yield_to_others()
        return priority()

    before = priority()
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(after_yielding).result() == 19
    assert priority() == before
