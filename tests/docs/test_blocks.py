"""Every `sh` block of README and docs runs, in order, as a reader would paste it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from app.config import ROOT
from tests.cli.test_panel import free_port, wait_until
from tests.forks import flask_in

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PASSWORD = "the password that make run printed"
PATIENCE = 400  # seconds for all blocks of a page

_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>not run|fails): (?P<why>[^>]+) -->\n+)?^```sh\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    "instance",
    "backups",
    "tests",
    "bench",
    "__pycache__",
    ".*_cache",
    ".coverage*",
)

#: Answers that are refusals on purpose: the text before the block says so.
REFUSED = {"api.md": ("has ended already",)}

#: A dump to import.
_BEFORE = """set -e
name=$(flask backup create | cut -d ' ' -f 1)
flask backup download "$name" -o theirs.dump
"""


@dataclass(frozen=True)
class Checkout:
    """A fresh checkout, whose panel runs."""

    folder: Path
    url: str

    def environment(self) -> dict[str, str]:
        path = f"{self.folder}/.venv/bin:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder / "home"), "LANG": "C.UTF-8"}

    def as_here(self, text: str) -> str:
        """What a reader puts in place of the panel's address and the folders of the docs."""
        places = {
            "http://127.0.0.1:3000": self.url,
            "https://backups.example.org": self.url,
            "/etc/backstop-login.json": str(self.folder / "home/login.json"),
            "/srv/backstop": str(self.folder),
            "/mnt/elsewhere": str(self.folder / "home/elsewhere"),
        }
        for theirs, ours in places.items():
            text = text.replace(theirs, ours)
        return text


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[re.Match[str]]:
    """Each block that a reader can run as it stands."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [each for each in found if each["mark"] != "not run"]


def script_of(page: Path, checkout: Checkout) -> str:
    """All blocks of a page for one shell, whose `flask` saves the time of a start."""
    script = ["set -eo pipefail", f'flask() {{ {checkout.folder}/home/bin/flask "$@"; }}']
    for number, block in enumerate(blocks_of(page), 1):
        script.append(f"echo '=== block {number}'")
        text = checkout.as_here(block["text"])
        if text.startswith("#!"):  # a script of its own
            kept = checkout.folder / f"home/block-{number}.sh"
            kept.write_text(text, encoding="utf-8")
            script.append(f"sh {kept}")
        elif block["mark"] == "fails":
            script.append(f"if {text.strip()}; then echo 'it did not fail'; exit 1; fi")
        else:
            script.append(text)
    return "\n".join([*script, "echo '=== end'\n"])


def run(script: str, checkout: Checkout) -> str:
    """What a shell in the checkout says; fails where the script does."""
    whole = checkout.folder / "home/blocks.sh"
    whole.write_text(script, encoding="utf-8")
    ended = subprocess.run(
        ["bash", whole],
        stdin=subprocess.DEVNULL,  # a block that asks for something fails
        cwd=checkout.folder,
        env=checkout.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def insist_on_blocks(page: Path, checkout: Checkout) -> None:
    """Every block of the page runs to its end, and nothing is refused but on purpose."""
    output = run(script_of(page, checkout), checkout)
    assert output.endswith("=== end\n")
    refused = [line for line in output.splitlines() if '"success":false' in line]
    expected = REFUSED.get(page.name, ())
    assert [line for line in refused if not any(word in line for word in expected)] == []


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Of the checkout itself; a folder below may have the same name."""
    return _LEFT_OUT(folder, names) if Path(folder) == ROOT else {"__pycache__"}


@pytest.fixture(scope="module")
def checkout(passable_dir: Path) -> Iterator[Checkout]:
    """One for all pages, as a reader has one: its panel takes long to start."""
    folder = passable_dir / "checkout"
    shutil.copytree(ROOT, folder, ignore=_left_out)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "home/elsewhere").mkdir(parents=True)
    port = free_port()
    here = Checkout(folder, f"http://127.0.0.1:{port}")
    login = {"username": "admin", "password": PASSWORD}
    (folder / "home/login.json").write_text(json.dumps(login), encoding="utf-8")
    own = {"BACKSTOP_LISTEN": f"127.0.0.1:{port}", "BACKSTOP_ADMIN_PASSWORD": PASSWORD}
    with (folder / "panel.log").open("wb") as log:
        panel = subprocess.Popen(
            [sys.executable, "-m", "flask", "panel"],
            cwd=folder,
            env=here.environment() | own,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: answers(here.url), "the panel")
        (folder / "home/bin").mkdir()
        with flask_in(folder / "home/bin", folder):
            run(_BEFORE, here)
            yield here
    finally:
        panel.terminate()
        panel.wait(60)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE + 120)
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=name_of)
def test_every_block_runs_in_order(page: Path, checkout: Checkout):
    insist_on_blocks(page, checkout)


@pytest.mark.parametrize(
    "block",
    [
        "```sh\nfalse\n```",
        "```sh\nfalse | true\n```",
        "```sh\nread -r answer\n```",
        "```sh\necho '{\"success\":false}'\n```",
        "<!-- fails: it says that it does -->\n\n```sh\ntrue\n```",
        "```sh\n#!/bin/sh\nexit 3\n```",
    ],
)
def test_a_broken_block_fails(block: str, tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(f"```sh\ntrue\n```\n\n{block}\n", encoding="utf-8")
    (tmp_path / "home").mkdir()
    with pytest.raises(AssertionError):
        insist_on_blocks(page, Checkout(tmp_path, "http://127.0.0.1:1"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_marked_says_why(page: Path):
    marked = (each for each in _BLOCK.finditer(page.read_text(encoding="utf-8")) if each["mark"])
    assert all(len(each["why"].split()) > 2 for each in marked)
