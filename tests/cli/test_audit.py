"""flask audit: list, export and verify."""

import json
import re
from pathlib import Path

from click.testing import Result
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import text

from app.extensions import db
from app.models import Trigger
from app.services.audit import log as audit
from app.services.audit.acting import Act


def test_the_audit_is_listed_exported_and_proven(panel: Flask, tmp_path: Path):
    cli = FlaskCliRunner(panel)

    def run(*words: str) -> Result:
        return cli.invoke(args=["audit", *words])

    assert run("verify").stdout == f"0 entries are as recorded.\nHead: {audit.NO_HASH}\n"
    with panel.app_context():
        audit.record(Act("backup.delete", Trigger.API, "ann", "::1", "a\x1b[2J.dump", detail="x"))
        audit.record(Act("session.create", Trigger.ADMIN, "bob", "::1"))
    listed = run("list").stdout.splitlines()
    assert [re.split(r" {2,}", each)[1:] for each in listed] == [
        ["done", "bob", "session.create", "::1 (admin)"],
        ["done", "ann", "backup.delete a\\x1b[2J.dump", "::1 (api)", "x"],
    ]
    assert run("list", "--limit", "1").stdout.endswith("There are more: --before 2\n")
    told = json.loads(run("list", "--actor", "ann", "--from", "2026-01-01", "--json").stdout)
    assert [each["action"] for each in told["entries"]] == ["backup.delete"]
    assert run("export", "--action", "backup").stdout == json.dumps(told["entries"][0]) + "\n"
    target = tmp_path / "audit.jsonl"
    assert run("export", str(target)).exit_code == 0
    lines = target.read_text().splitlines()
    assert [json.loads(each)["action"] for each in lines] == [
        "backup.delete", "session.create", "audit.export",
    ]  # fmt: skip
    verified = json.loads(run("verify", "--json").stdout)
    assert verified["entries"] == 4
    assert run("verify", "--head", verified["head"]).exit_code == 0
    for words in (
        ("list", "--from", "soon"),
        ("export", "--to", "soon"),
        ("verify", "--head", "a" * 64),
    ):
        assert run(*words).exit_code == 1
    with panel.app_context():
        db.session.execute(text("DROP TRIGGER audit_entries_no_update"))
        db.session.execute(text("UPDATE audit_entries SET actor = 'eve' WHERE id = 2"))
        db.session.commit()
    result = run("verify")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[:2] == [
        "Error: the chain of the audit log is broken",
        "Detail: Entry 2 was changed or replaced.",
    ]
    assert "Hint: " in result.stderr
