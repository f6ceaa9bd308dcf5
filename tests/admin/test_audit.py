"""The page that tells who did what."""

import re

from flask import Flask
from flask.testing import FlaskClient

from app.models import ActOutcome, Trigger
from app.services.audit import log as audit
from app.services.audit.acting import Act


def test_entries_are_shown_escaped_filtered_and_page_by_page(panel: Flask, ann: FlaskClient):
    with panel.app_context():
        for number in range(60):
            audit.record(
                Act("backup.note", Trigger.ADMIN, actor="bob", detail=f"<script>{number}</script>")
            )
        audit.record(Act("backup.delete", Trigger.CLI, outcome=ActOutcome.FAILED, detail="no disk"))
    page = ann.get("/admin/audit").text
    assert page.count("<tr>") == 1 + 50
    assert "<script>5" not in page
    assert "&lt;script&gt;59&lt;/script&gt;" in page
    assert "no disk" in page
    older = re.search(r'rel="next" href="([^"]+)"', page)
    assert older is not None
    second = ann.get(older[1].replace("&amp;", "&")).text
    assert second.count("<tr>") == 1 + 12
    assert "session.create" in second
    assert "Newest" in second
    found = ann.get("/admin/audit", query_string={"actor": "bob", "q": ">7<", "from": "2026-01-01"})
    assert found.text.count("<tr>") == 1 + 1
    assert 'value="&gt;7&lt;"' in found.text
    export = re.search(r'href="(/admin/audit/export[^"]*)"', found.text)
    assert export is not None
    answer = ann.get(export[1].replace("&amp;", "&"))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="backstop-audit.jsonl"'
    assert len(answer.text.splitlines()) == 1
    assert "No entry matches" in ann.get("/admin/audit?actor=nobody").text


def test_what_cannot_be_meant_is_told_on_the_page(ann: FlaskClient):
    for query in ("from=soon", "before=x", "outcome=good"):
        answer = ann.get(f"/admin/audit?{query}")
        assert answer.status_code == 422
        assert 'role="alert"' in answer.text
    assert ann.get("/admin/audit/export?to=soon").status_code == 422
