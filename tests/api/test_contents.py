"""The tables of a backup as JSON, and a restore of some of them."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.models import Status
from tests.api.test_downloads import dump_of, is_problem, planted
from tests.api.test_restores import ended
from tests.conftest import Database, url_of


def made(admin: FlaskClient) -> str:
    return str(admin.post("/api/admin/backup").get_json()["backup"]["filename"])


def held(*names: str, **more: Any) -> dict[str, Any]:
    """What a backup says that it holds."""
    tables = [
        {"schema": "public", "name": name, "rows": at, "bytes": 1000 - at}
        for at, name in enumerate(names)
    ]
    return {"tables": tables} | more


@pytest.mark.usefixtures("worker")
def test_a_chosen_table_is_listed_and_restored(admin: FlaskClient, shop: Database, server):
    filename = made(admin)
    url = f"/api/admin/backup/{filename}"
    listed = admin.get(f"{url}/contents?q=ORDERS").get_json()
    (orders,) = listed["tables"]
    assert listed["total"] == 1
    assert (orders["schema"], orders["name"], orders["rows"]) == ("public", "orders", 500)
    assert orders["bytes"] > 500 * 6
    chosen = [{"schema": "public", "name": "orders"}]
    body = {"mode": "beside", "into": f"{shop.name}_some", "tables": chosen}
    answer = admin.post(f"{url}/restores", json=body)
    assert answer.status_code == 202, answer.text
    done = ended(admin, answer.headers["Location"])
    try:
        assert (done["status"], done["tables"]) == ("COMPLETED", chosen)
        assert done["result"]["leftOut"] == ["FK CONSTRAINT orders orders_customer_id_fkey"]
        assert (done["result"]["tables"], done["result"]["rows"]) == (1, 500)
        copy = Database(body["into"], url_of(server, str(body["into"])))
        assert copy.run("SELECT count(*), to_regclass('customers') FROM orders") == [(500, None)]
    finally:
        shop.run(f'DROP DATABASE IF EXISTS "{body["into"]}"')


def test_the_list_comes_in_parts_and_takes_no_nonsense(panel: Flask, ann: FlaskClient):
    filename = planted(panel, contents=held("a", "b", "c"))
    url = f"/api/admin/backup/{filename}/contents"
    told = ann.get(f"{url}?limit=2&offset=1").get_json()
    assert [each["name"] for each in told["tables"]] == ["b", "c"]
    assert told["total"] == 3
    assert [e["name"] for e in ann.get(f"{url}?sort=rows").get_json()["tables"]] == ["c", "b", "a"]
    for query in ("limit=0", "limit=1001", "offset=-1", "sort=oid", "unknown=1"):
        assert is_problem(ann.get(f"{url}?{query}"), 422)
    assert is_problem(ann.get("/api/admin/backup/backup_x.dump/contents"), 404)
    without = ann.get(f"/api/admin/backup/{planted(panel)}/contents").get_json()
    assert without == {"tables": [], "total": 0}


def test_older_backups_have_no_sizes_and_parents_no_rows(panel: Flask, ann: FlaskClient):
    contents = {
        "tables": [{"schema": "public", "name": "p 1", "rows": 3}],
        "owned": [
            ["table", 'public."p 1"', "ann", None],
            ["table", "public.parent", "ann", None],
            ["sequence", "public.s", "ann", None],
        ],
    }
    url = f"/api/admin/backup/{planted(panel, contents=contents)}/contents"
    part, parent = ann.get(url).get_json()["tables"]
    nothing = {"isOfExtension": False, "bytes": None, "schema": "public"}
    assert parent == nothing | {"name": "parent", "rows": None, "isPartitioned": True}
    assert part == nothing | {"name": "p 1", "rows": 3, "isPartitioned": False}


def test_two_backups_are_compared(panel: Flask, ann: FlaskClient):
    names = [planted(panel, contents=held(*tables)) for tables in (("a", "b"), ("a", "b", "c"))]
    url = f"/api/admin/backup/{names[1]}/comparison"
    assert is_problem(ann.get(f"{url}?earlier={names[0]}"), 502)  # its dump is no archive
    for name in names:
        dump_of(panel, name).unlink()
    found = ann.get(f"{url}?earlier={names[0]}").get_json()
    assert (found["earlier"], found["backup"]) == tuple(names)
    assert found["tables"] == [
        {
            "schema": "public",
            "name": "c",
            "change": "added",
            "rowsBefore": None,
            "rows": 2,
            "bytesBefore": None,
            "bytes": 998,
        }
    ]
    assert (found["tablesTotal"], found["objects"], found["objectsTotal"]) == (1, None, None)
    assert is_problem(ann.get(f"{url}?earlier=nonsense"), 404)
    assert is_problem(ann.get(f"{url}?later=x"), 422)


@pytest.mark.usefixtures("worker")
def test_the_schema_comes_as_sql_without_rows(admin: FlaskClient, shop: Database):
    shop.run("COMMENT ON TABLE orders IS 'größer als <nichts>'")
    filename = made(admin)
    answer = admin.get(f"/api/admin/backup/{filename}/schema", buffered=True)
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; charset=utf-8"
    assert "CREATE TABLE public.orders" in answer.text
    assert "IS 'größer als <nichts>'" in answer.text
    assert "COPY" not in answer.text
    shown = admin.get(f"/admin/backup/{filename}/schema", buffered=True)
    assert "CREATE TABLE public.orders" in shown.text


def test_a_schema_that_cannot_be_read_is_an_error(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    url = f"/api/admin/backup/{filename}/schema"
    assert is_problem(ann.get(url), 502)  # no archive
    dump_of(panel, filename).unlink()
    assert is_problem(ann.get(url), 404)
    failed = planted(panel, status=Status.FAILED)
    assert is_problem(ann.get(f"/api/admin/backup/{failed}/schema"), 422)
    assert is_problem(ann.get("/api/admin/backup/nonsense/schema"), 404)
