"""Everybody can use every page: axe finds no violation of WCAG 2.2 AA, light and dark, wide and
narrow; nothing has to be scrolled sideways, and the browser has nothing to complain of.
"""

import json
from importlib.resources import files

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import sign_in

pytestmark = pytest.mark.browser

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAGES = [
    *("/admin/", "/admin/backup", "/admin/backup?proof=failed", "/admin/import"),
    *("/admin/restores", "/admin/schedules", "/admin/schedules/new", "/admin/retention"),
    *("/admin/databases", "/admin/databases/new", "/admin/stores", "/admin/stores/new"),
    *("/admin/settings", "/admin/alarms", "/admin/notifiers", "/admin/audit", "/admin/doctor"),
    *("/admin/assertions", "/admin/account", "/admin/password", "/admin/nonsense"),
]


def violations(page: Page) -> list[str]:
    page.evaluate(AXE)
    options = json.dumps({"runOnly": {"type": "tag", "values": RULES}})
    found = page.evaluate(f"axe.run(document, {options})")["violations"]
    return [
        f"{page.url}: {violation['id']}: {violation['help']}: {violation['nodes'][0]['html'][:200]}"
        for violation in found
    ]


@pytest.mark.parametrize(
    ("colours", "width", "language"), [("light", 1280, "en"), ("dark", 360, "de")]
)
def test_nothing_is_wrong_on_any_page(
    browser: Browser, base: str, colours: str, width: int, language: str
):
    context = browser.new_context(color_scheme=colours, viewport={"width": width, "height": 800})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(f"{page.url}: {message.text}"))
    page.goto(base)
    wrong += violations(page)
    sign_in(page, base)
    page.get_by_role("button", name="Create backup").click()
    expect(page.locator("tr:has(td)").first).to_contain_text("Completed")
    backup = page.locator("tr:has(td) a").first.get_attribute("href")
    context.set_extra_http_headers({"Accept-Language": language})
    of_backup = ["", "/contents", "/comparison", "/certificate", "/restore", "/delete"]
    for path in [*PAGES, *(f"{backup}{more}" for more in of_backup)]:
        page.goto(f"{base}{path}")
        assert page.locator("html").get_attribute("lang") == language
        wrong += violations(page)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"{page.url} has to be scrolled sideways")
    context.close()
    wrong = [complaint for complaint in wrong if "status of 404" not in complaint]  # asked for
    assert wrong == [], "\n".join(wrong)
