"""Assertions as pages: list, add, change, delete; and where their answers are shown."""

from flask import Flask
from flask.testing import FlaskClient

from app.models import Kind, Level, Result
from tests.admin.test_backups import LIST, seen, sent
from tests.api.test_downloads import planted
from tests.api.test_restores import planted_proof, planted_restore

ASSERTIONS = "/admin/assertions"

EVIDENCE = {
    "assertions": [
        {"id": "a", "name": "orders <i>", "passed": True, "told": "it is true"},
        {"id": "b", "name": "totals", "passed": False, "told": "it is <b>null</b>"},
    ],
    "amcheck": "nothing found",
    "found": [],
    "seconds": 1.5,
    "differences": ["assertion totals: it is <b>null</b>"],
}


def test_one_is_added_changed_and_deleted(ann: FlaskClient):
    assert seen(ann, LIST).all("a", href="/admin/settings")
    assert seen(ann, "/admin/settings").all("a", href=ASSERTIONS)
    assert "None yet." in seen(ann, ASSERTIONS).text
    statement = "SELECT '<script>alert(1)</script>' <> ''"
    answer = sent(ann, ASSERTIONS, ASSERTIONS, name="<b>orders</b>", statement=statement)
    assert (answer.status_code, answer.location) == (302, ASSERTIONS)
    page = seen(ann, ASSERTIONS)
    assert statement in page.text
    assert not page.all("b")
    (link,) = [each["href"] for each in page.all("a") if each["href"].startswith(f"{ASSERTIONS}/")]
    (form,) = [each for each in seen(ann, link).forms if each["action"] == link]
    assert form["field name"] == "<b>orders</b>"
    answer = sent(ann, link, link, name="orders", statement="SELECT 1 = 1")
    assert answer.status_code == 302
    page = seen(ann, ASSERTIONS)
    assert "SELECT 1 = 1" in page.text
    assert "<b>orders</b>" not in page.within("h2")
    assert sent(ann, f"{link}/delete", link).location == ASSERTIONS
    assert "None yet." in seen(ann, ASSERTIONS).text
    assert ann.get(link).status_code == 404


def test_what_cannot_be_meant_comes_back_with_what_was_typed(ann: FlaskClient):
    for name, statement, status, told in (
        ("", "SELECT true", 422, "The name must have 1 to 100 printable characters"),
        ("kept", "", 422, "The statement is empty"),
        ("kept", "S" * 10_001, 422, "must not be longer than 10000"),
        ("kept", "SELECT true", 302, ""),
        ("kept", "SELECT 1 = 1", 409, "There is an assertion"),
    ):
        answer = sent(ann, ASSERTIONS, ASSERTIONS, name=name, statement=statement)
        assert (answer.status_code, told in answer.text) == (status, True), name
        if status != 302:
            assert f'value="{name}"' in answer.text
            assert statement in answer.text
    assert ann.post(ASSERTIONS, data={"name": "a", "statement": "b"}).status_code == 400


def test_what_was_asserted_is_shown_with_the_backup_and_the_restore(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    planted_proof(panel, filename, level=Level.RESTORED)
    planted_proof(panel, filename, level=Level.ASSERTED, result=Result.FAILED, evidence=EVIDENCE)
    page = seen(ann, f"{LIST}/{filename}")
    assert "1 of 2 assertions true, pg_amcheck: nothing found" in page.text
    assert {"orders <i>: it is true", "totals: it is <b>null</b>"} <= set(page.within("li"))
    found = {"assertions": EVIDENCE["assertions"]}
    beside = planted_restore(panel, filename, kind=Kind.BESIDE, result=found)
    page = seen(ann, f"/admin/restores/{beside}")
    assert "Assertions that are not true: totals" in page.text
    assert "1 of 2 assertions true" in page.text
    drill = planted_restore(panel, filename, kind=Kind.DRILL, result={"amcheck": "nothing found"})
    assert "pg_amcheck: nothing found" in seen(ann, f"/admin/restores/{drill}").text
    details = ann.get(f"/api/admin/backup/{filename}/details").get_json()
    assert details["proofs"][0]["level"] == "asserted"
    assert details["proofs"][0]["evidence"] == EVIDENCE
