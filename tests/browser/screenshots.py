"""Write a picture of every page, of two widths, light and dark: `make screenshots`.

A panel of its own, with the sample, runs on a free port in a folder that is removed afterwards.
"""

import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from app.config import ROOT
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.browser.test_access import PAGES

WIDTHS = (1280, 390)
OF_A_BACKUP = ("", "/contents", "/comparison", "/certificate", "/restore", "/delete")
_CREATE = ["create", "-q"]
FLASK = Path(sys.executable).with_name("flask")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with panel() as (address, password), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for colours in ("light", "dark"):
            for width in WIDTHS:
                take(browser, folder, address, password, colours=colours, width=width)
        browser.close()
    print(f"{len(list(folder.glob('*.png')))} pictures are in {folder}.")


@contextmanager
def panel() -> Iterator[tuple[str, str]]:
    """A running panel with three backups, one of them restore-tested; its address and password."""
    with tempfile.TemporaryDirectory(prefix="backstop-pictures-") as name:
        home = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        home.chmod(0o711)  # the sample's server runs as another user
        environment = os.environ | {
            "BACKSTOP_INSTANCE_DIR": str(home / "instance"),
            "BACKSTOP_BACKUP_DIR": str(home / "backups"),
            "BACKSTOP_LISTEN": f"127.0.0.1:{port}",
        }
        command = [FLASK, "panel"]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as running:
            assert running.stdout is not None
            said = ""
            for line in running.stdout:
                said += line
                if "Ctrl-C ends it" in line:
                    break
            address = re.search(r"(http://\S+)/admin", said)
            assert address, said
            password = secrets.token_urlsafe()
            try:
                _flask("admin", "password", "admin", environment=environment, said=password)
                for words in (_CREATE, _CREATE, ["drill", "--latest", "-q"], _CREATE):
                    _flask("backup", *words, environment=environment)
                yield address[1], password
            finally:
                running.terminate()


def _flask(*words: str, environment: Mapping[str, str], said: str = "") -> None:
    command = [FLASK, *words]
    subprocess.run(
        command, cwd=ROOT, env=environment, input=said, text=True, check=True, capture_output=True
    )


def take(
    browser: Browser, folder: Path, address: str, password: str, *, colours: str, width: int
) -> None:
    context = browser.new_context(color_scheme=colours, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(f"{address}/admin/")
    save(page, folder / f"sign-in-{colours}-{width}.png")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{address}/admin/backup")
    backup = page.locator("tr:has(td) a").first.get_attribute("href")
    for path in [*PAGES, *(f"{backup}{more}" for more in OF_A_BACKUP)]:
        page.goto(f"{address}{path}")
        name = re.sub(r"backup_[^/]*\.dump", "one", path.removeprefix("/admin/"))
        name = re.sub(r"[^a-z]+", "-", name).strip("-") or "overview"
        save(page, folder / f"{name}-{colours}-{width}.png")
    context.close()


def save(page: Page, path: Path) -> None:
    page.screenshot(path=path, full_page=True)


if __name__ == "__main__":
    main()
