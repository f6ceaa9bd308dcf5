"""The tables of a backup as a page, and the way from there to a restore of some."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.admin.test_backups import HOSTILE, LIST, followed, seen, sent
from tests.admin.test_restores import ended, made
from tests.api.test_contents import held
from tests.api.test_downloads import dump_of, planted
from tests.conftest import Database


@pytest.mark.usefixtures("worker")
def test_tables_are_chosen_on_a_page_and_restored(app: Flask, admin: FlaskClient, shop: Database):
    filename = made(app, admin)
    page = seen(admin, f"{LIST}/{filename}")
    url = page.link("Tables…")
    assert url == f"{LIST}/{filename}/contents"
    page = seen(admin, url)
    boxes = [each["value"] for each in page.all("input", type="checkbox")]
    assert boxes == ["public.customers", "public.orders"]
    wizard = f"{LIST}/{filename}/restore"
    assert page.all("form", action=wizard, method="get")
    chosen = seen(admin, f"{wizard}?tables=public.orders")
    assert "1 tables, 500 rows" in chosen.text
    assert "FK CONSTRAINT orders orders_customer_id_fkey" in chosen.text
    assert chosen.within("textarea") == ["public.orders"]

    for tables, mode, told in (
        ("public.ordesr", "beside", "Did you mean public.orders?"),
        ("orders", "beside", "does not name a table"),
        ("public.orders", "replace", "Selected tables can only be restored beside."),
    ):
        answer = sent(admin, wizard, mode=mode, tables=tables, into=f"{shop.name}_x")
        assert answer.status_code == 422
        assert told in answer.text
    answer = sent(
        admin, wizard, mode="beside", tables=" public.orders \r\n\r\n", into=f"{shop.name}_x"
    )
    assert answer.status_code == 302, answer.text
    try:
        page = ended(admin, answer.location)
        assert "1 table, 500 rows, no difference" in page.text
        assert "public.orders" in page.within("dd")
        assert "everything except the chosen tables and what they need" in page.text
    finally:
        shop.run(f'DROP DATABASE IF EXISTS "{shop.name}_x"')


def test_many_tables_come_a_hundred_at_a_time(panel: Flask, ann: FlaskClient):
    names = [f"t{at:05}" for at in range(20_000)]
    filename = planted(panel, contents=held(*names, HOSTILE))
    url = f"{LIST}/{filename}/contents"
    page = seen(ann, url)
    assert len(page.all("input", type="checkbox")) == 100
    assert "1 to 100 of 20,001." in page.text
    assert page.link("Previous") is None
    following = page.link("Next")
    assert following == f"{url}?sort=name&offset=100"
    page = seen(ann, following)
    assert page.link("Previous") == f"{url}?sort=name&offset=0"
    assert "1 to 1 of 1." in seen(ann, f"{url}?q=t19999&sort=bytes").text
    assert "No table matches this search." in seen(ann, f"{url}?q=nothing").text
    hostile = seen(ann, f"{url}?q=alert")
    assert HOSTILE in hostile.text
    assert not hostile.all("img")
    assert len(seen(ann, f"{url}?sort=x&offset=y").all("input", type="checkbox")) == 100
    assert (
        "The tables of this backup are not known"
        in seen(ann, f"{LIST}/{planted(panel)}/contents").text
    )
    seen(ann, f"{LIST}/backup_x.dump/contents", 404)


@pytest.mark.usefixtures("worker")
def test_what_has_changed_is_a_page_of_its_own(app: Flask, admin: FlaskClient, shop: Database):
    first = made(app, admin)
    url = seen(admin, f"{LIST}/{first}").link("Changes…")
    assert url == f"{LIST}/{first}/comparison"
    page = followed(admin, admin.get(url))
    assert "There is no earlier backup to compare with." in page.text
    shop.run("DELETE FROM orders WHERE id > 490; CREATE INDEX orders_later ON orders (id DESC)")
    second = made(app, admin)
    page = seen(admin, f"{LIST}/{second}/comparison")
    assert [option["value"] for option in page.all("option", value=first)] == [first]
    assert "public.orders Changed 500 490 -10" in page.text
    assert "INDEX public.orders_later Added" in page.text
    page = seen(admin, f"{LIST}/{second}/comparison?earlier={second}")
    assert "Each table has as many rows and bytes as before." in page.text
    assert "No object was added, removed or changed." in page.text


def test_hostile_names_are_only_shown_as_changes(panel: Flask, ann: FlaskClient):
    first, second = planted(panel, contents=held()), planted(panel, contents=held(HOSTILE))
    for name in (first, second):
        dump_of(panel, name).unlink()
    page = seen(ann, f"{LIST}/{second}/comparison?earlier={first}")
    assert f"public.{HOSTILE}" in page.text
    assert "the dump of one of the two backups is not here" in page.text
    assert page.all("img") == []
