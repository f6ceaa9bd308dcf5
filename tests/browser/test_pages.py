"""The pages in a real browser: one click makes a backup, with and without scripts."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import served, sign_in
from tests.conftest import Database, locked

pytestmark = pytest.mark.browser


def test_one_click_makes_a_backup_that_completes_without_a_reload(page: Page):
    page.evaluate("window.stillHere = true")
    expect(page.get_by_text("There is no good backup yet")).to_be_visible()
    page.get_by_label("Notes", exact=True).fill("before the migration")
    page.get_by_role("button", name="Create backup").click()
    page.evaluate("window.stillHere = true")
    row = page.locator("tr:has(td)").first
    expect(row).to_contain_text("Completed")
    expect(row).to_contain_text("before the migration")
    expect(page.get_by_text("Last good backup")).to_be_visible()
    assert page.evaluate("window.stillHere") is True


def test_a_dump_is_downloaded_and_deleted(page: Page, app: Flask, tmp_path: Path):
    page.get_by_role("button", name="Create backup").click()
    expect(page.locator("tr:has(td)").first).to_contain_text("Completed")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download").first.click()
    target = tmp_path / started.value.suggested_filename
    started.value.save_as(target)
    stored = app.extensions["backstop.settings"].backup_dir / target.name
    assert target.read_bytes() == stored.read_bytes()

    page.get_by_role("link", name="Delete").first.click()
    expect(page.get_by_text("This is the last good backup")).to_be_visible()
    page.get_by_role("button", name="Delete backup").click()
    expect(page.get_by_text("to delete a backup of it")).to_be_visible()
    database = page.locator("label strong").inner_text()
    page.get_by_label("to confirm").fill(database)
    page.get_by_role("button", name="Delete backup").click()
    expect(page.get_by_text("has been deleted")).to_be_visible()
    assert not stored.exists()


def test_details_show_checksum_log_and_commands(page: Page):
    page.get_by_role("button", name="Create backup").click()
    expect(page.locator("tr:has(td)").first).to_contain_text("Completed")
    page.locator("tbody tr a").first.click()
    expect(page.get_by_text("SHA-256")).to_be_visible()
    expect(page.get_by_text("pg_restore --exit-on-error")).to_be_visible()
    page.get_by_text("Log of pg_dump").click()
    expect(page.locator("pre.log")).to_contain_text("dumping contents of table")


def test_the_progress_bar_moves_without_a_reload(
    browser: Browser, make_app: Callable[..., Flask], shop: Database
):
    rows = "md5(n::text) || md5((-n)::text) FROM generate_series(1, 2000000) n"
    shop.run(f"CREATE TABLE big AS SELECT {rows}")
    shop.run("ANALYZE")
    app = make_app(compression="gzip:9")
    with served(app) as base:
        page = browser.new_context().new_page()
        sign_in(page, base)
        page.get_by_role("button", name="Create backup").click()
        page.locator("tbody tr a").first.click()
        page.evaluate("window.stillHere = true")
        bar = page.locator("progress")
        expect(bar).not_to_have_attribute("value", "0.0")
        first = bar.get_attribute("value")
        expect(bar).not_to_have_attribute("value", str(first))
        expect(bar).to_have_attribute("aria-label", re.compile(r"Dumping public\.big, \d of 3"))
        expect(page.locator("pre.log")).to_contain_text("dumping contents of table")
        assert page.evaluate("window.stillHere") is True
        # The button stays the same element, so that it can be pressed by hand and key.
        page.get_by_role("button", name="Cancel backup").focus()
        seen = str(bar.get_attribute("value"))
        expect(bar).not_to_have_attribute("value", seen)
        expect(page.get_by_role("button", name="Cancel backup")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_text("has been cancelled")).to_be_visible()
        expect(page.get_by_text("Cancelled by admin")).to_be_visible()
        page.context.close()


def test_the_theme_is_remembered(page: Page):
    page.get_by_label("Colours").select_option("dark")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_has_to_be_scrolled_sideways(browser: Browser, base: str, colours, width: int):
    context = browser.new_context(viewport={"width": width, "height": 740}, color_scheme=colours)
    page = context.new_page()
    sign_in(page, base)
    page.get_by_label("Notes", exact=True).fill("an-unbroken-word-" * 30)
    page.get_by_role("button", name="Create backup").click()
    expect(page.locator("tr:has(td)").first).to_contain_text("Completed")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", colours)
    too_wide = "document.documentElement.scrollWidth > window.innerWidth"
    assert not page.evaluate(too_wide)
    page.locator("tbody tr a").first.click()
    expect(page.get_by_text("SHA-256")).to_be_visible()
    assert not page.evaluate(too_wide)
    context.close()


def test_everything_works_without_scripts(browser: Browser, base: str):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, base)
    expect(page.get_by_text("JavaScript is off")).to_be_visible()
    page.get_by_role("button", name="Create backup").click()
    row = page.locator("tr:has(td)").first
    for _ in range(100):
        if "Pending" not in row.inner_text():
            break
        page.reload()
    expect(row).to_contain_text("Completed")
    page.get_by_label("Colours").select_option("dark")
    page.get_by_role("button", name="Set").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.get_by_text("admin", exact=True).click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_text("Signed out.")).to_be_visible()
    context.close()


def test_the_keyboard_stays_where_it_is_while_a_page_refreshes(
    browser: Browser, make_app: Callable[..., Flask], shop: Database
):
    with locked(shop), served(make_app(lock_timeout=60)) as base:
        page = browser.new_context().new_page()
        sign_in(page, base)
        page.get_by_role("button", name="Create backup").click()
        link = page.locator("tbody tr a").first
        link.focus()
        # As if the list had changed: it is exchanged at the next look.
        page.evaluate("document.querySelector('[data-refresh=list]').append('old')")
        expect(page.locator("[data-refresh=list]")).not_to_contain_text("old")
        expect(link).to_be_focused()
        link.press("Enter")
        log = page.get_by_role("region", name="Log of pg_dump")
        log.focus()
        page.evaluate("document.querySelector('[data-refresh=log]').append('old')")
        expect(log).not_to_contain_text("old")
        expect(log).to_be_focused()
        page.get_by_role("button", name="Cancel backup").click()
        expect(page.get_by_text("has been cancelled")).to_be_visible()
        page.context.close()


def test_what_is_chosen_stays_so_while_the_list_refreshes_and_is_pinned(page: Page):
    page.get_by_role("button", name="Create backup").click()
    expect(page.locator("tr:has(td)").first).to_contain_text("Completed")
    box = page.get_by_role("checkbox", name=re.compile("Choose backup_"))
    box.check()
    # As if another backup were running, and the list had changed.
    page.evaluate(
        "document.body.dataset.pending = '';"
        "document.querySelector('[data-refresh=list]').append('old')"
    )
    expect(page.locator("[data-refresh=list]")).not_to_contain_text("old")
    expect(box).to_be_checked()
    page.get_by_role("button", name="Pin the chosen").click()
    page.get_by_label("Why they are kept").fill("before the audit")
    page.get_by_label("Why they are kept").press("Enter")
    expect(page.get_by_text("1 backup has been pinned.")).to_be_visible()
    page.get_by_label("Pinned", exact=True).check()
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tr:has(td)")).to_have_count(1)
    assert "pinned=yes" in page.url


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_where_one_is_can_be_seen(browser: Browser, base: str, colours):
    context = browser.new_context(color_scheme=colours)
    page = context.new_page()
    sign_in(page, base)
    nav = page.get_by_role("navigation", name="Panel")
    current = nav.locator("[aria-current=page]")
    expect(current).to_have_text("Backups")
    expect(current).to_have_css("text-decoration-line", "underline")
    for link in nav.get_by_role("link").all():
        page.keyboard.press("Tab")  # the keyboard, so that a ring is drawn
        link.focus()
        expect(link).to_have_css("outline-style", "solid")
    assert nav.get_by_role("link").count() == 7
    nav.get_by_role("link", name="Settings").click()
    expect(current).to_have_text("Settings")
    inner = page.get_by_role("navigation", name="Settings")
    inner.get_by_role("link", name="Doctor").click()
    expect(inner.locator("[aria-current=page]")).to_have_text("Doctor")
    expect(nav.locator("[aria-current=true]")).to_have_text("Settings")
    page.get_by_label("Search all backups").fill("nothing like it")
    page.get_by_label("Search all backups").press("Enter")
    expect(page.get_by_text("No backup matches this search.")).to_be_visible()
    context.close()


def test_a_call_of_the_api_is_tried_under_the_strict_policy(browser: Browser, base: str):
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, base)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{base}/admin/api")
    page.locator(".opblock-tag[data-tag=alarms]").click()
    page.locator(".opblock-summary-control").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".responses-table.live-responses-table")).to_contain_text('"alarms": []')
    assert complaints == []
    context.close()


def test_without_scripts_the_calls_of_the_api_are_a_plain_list(browser: Browser, base: str):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, base)
    page.goto(f"{base}/admin/api")
    expect(page.get_by_role("cell", name="/api/admin/alarms", exact=True)).to_be_visible()
    context.close()
