"""A dump that was made elsewhere, brought by a browser."""

from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Page, expect

from app.config import UPLOAD_PART
from app.postgres.conninfo import parse_url
from app.postgres.tools import Toolchain
from tests.postgres.conftest import make_dump

pytestmark = pytest.mark.browser


# Waitress does not close the file of a body that is cut off in the middle.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dump_of_many_parts_goes_on_after_a_reload(
    page: Page,
    app: Flask,
    new_database,
    own_toolchain: Toolchain,
    tmp_path: Path,
):
    theirs = new_database()
    theirs.run(
        "CREATE TABLE big AS SELECT repeat(md5(n::text), 32768) FROM generate_series(1, 40) n"
    )
    theirs.run("CREATE FUNCTION act() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    dump = tmp_path / "theirs.dump"
    make_dump(own_toolchain, parse_url(theirs.url), dump, compression="none")
    assert dump.stat().st_size > 2 * UPLOAD_PART
    page.get_by_role("link", name="Import a dump").click()
    page.get_by_label("File").set_input_files(dump)
    page.get_by_label("Notes").fill("of a customer")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        page.get_by_role("button", name="Upload").click()
    page.reload()  # in the middle of it
    page.get_by_label("File").set_input_files(dump)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("This dump was made elsewhere.")).to_be_visible()
    expect(page.get_by_text("Brings functions: public.act()")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download", exact=True).click()
    assert Path(download.value.path()).read_bytes() == dump.read_bytes()


def test_what_is_no_dump_is_told_on_the_page(page: Page, tmp_path: Path):
    script = tmp_path / "script.sql"
    script.write_text("-- PostgreSQL database dump\n" * 10)
    page.get_by_role("link", name="Import a dump").click()
    page.get_by_label("File").set_input_files(script)
    page.on("console", lambda _: None)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("status")).to_contain_text("not a dump in pg_dump's custom format")
