"""Drill, replace and undo in a real browser."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import sign_in
from tests.conftest import PASSWORD, Database

pytestmark = pytest.mark.browser


def back_up(page: Page) -> None:
    page.get_by_role("button", name="Create backup").click()
    row = page.locator("tr:has(td)").first
    expect(row).to_contain_text("Read back")
    row.get_by_role("link").first.click()


def test_a_backup_is_drilled_put_in_place_and_taken_back(page: Page, shop: Database):
    back_up(page)
    page.get_by_role("button", name="Run a drill").click()
    page.evaluate("window.stillHere = true")
    expect(page.get_by_text("2 tables, 550 rows, no difference")).to_be_visible()
    assert page.evaluate("window.stillHere") is True

    shop.run("DELETE FROM orders")
    page.get_by_role("link", name="backup_").click()
    expect(page.locator("#proofs").locator("..")).to_contain_text("Restored")
    page.get_by_role("link", name="Restore…").click()
    page.get_by_label(f"Replace {shop.name}").check()
    page.get_by_label("to confirm").fill(shop.name)
    page.get_by_label("Your password").fill("not mine")
    page.get_by_role("button", name="Start the restore").click()
    expect(page.get_by_text("The password is wrong.")).to_be_visible()
    expect(page.get_by_label(f"Replace {shop.name}")).to_be_checked()
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Start the restore").click()
    expect(page.get_by_text("It is kept as")).to_be_visible()
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]

    page.get_by_role("link", name="Undo…").click()
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Undo the restore").click()
    expect(page.get_by_role("link", name="Drop it…")).to_be_visible()
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]
    page.get_by_role("link", name="Drop it…").click()
    page.get_by_label("to confirm").fill(shop.name)
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Drop database").click()
    expect(page.get_by_text("was dropped")).to_be_visible()


def test_a_drill_is_run_without_scripts_on_a_narrow_screen(browser: Browser, base: str):
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": 360, "height": 740}, color_scheme="dark"
    )
    page = context.new_page()
    sign_in(page, base)
    page.get_by_role("button", name="Create backup").click()
    row = page.locator("tr:has(td)").first
    reload_until(page, "Read back", within="[data-refresh=list]")
    row.get_by_role("link").first.click()
    assert_fits(page)
    page.get_by_role("link", name="Restore…").click()
    expect(page.get_by_text("What will happen")).to_be_visible()
    assert_fits(page)
    page.go_back()
    page.get_by_role("button", name="Run a drill").click()
    reload_until(page, "no difference")
    assert_fits(page)
    page.get_by_role("link", name="Drills and restores").click()
    expect(page.locator("tr:has(td)")).to_contain_text("2 tables, 550 rows, no difference")
    assert_fits(page)
    context.close()


def reload_until(page: Page, text: str, within: str = "main") -> None:
    for _ in range(200):
        if text in page.locator(within).inner_text():
            return
        page.reload()
    raise AssertionError(f"{text!r} does not come")


def assert_fits(page: Page) -> None:
    """Nothing has to be scrolled sideways; asked of the layout, for there are no scripts."""
    for element in page.locator("main > *, header").all():
        box = element.bounding_box()
        assert box is None or box["x"] + box["width"] <= 360.5, element.inner_text()[:100]
