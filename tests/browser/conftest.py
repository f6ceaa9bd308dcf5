"""A browser that is signed in to a panel."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect, sync_playwright
from waitress import wasyncore
from waitress.server import create_server

from tests.conftest import PASSWORD, working

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]

expect.set_options(timeout=30_000)  # milliseconds: the machine may be busy


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def base(app: Flask) -> Iterator[str]:
    with served(app) as base:
        yield base


@contextmanager
def served(app: Flask) -> Iterator[str]:
    server = create_server(app, listen="127.0.0.1:0", threads=4)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with working(app):
            yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
        thread.join()
        server.task_dispatcher.shutdown()


def sign_in(page: Page, base: str) -> None:
    page.goto(base)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Databases")).to_be_visible()
    page.get_by_role("link", name="Backups", exact=True).click()
    expect(page.get_by_role("heading", name="Backups")).to_be_visible()


@pytest.fixture
def page(browser: Browser, base: str) -> Iterator[Page]:
    """A signed-in page; anything that the browser complains of fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    sign_in(page, base)
    yield page
    context.close()
    # A form that comes back with 422 is no complaint.
    assert [each for each in complaints if "status of 422" not in each] == []
