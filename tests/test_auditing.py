"""Every act over every face is recorded; what is not stands in a list with its reason."""

import json
import logging
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask, flash
from flask.testing import FlaskClient
from sqlalchemy import text

from app import auditing
from app.cli.groups import TellingCommand
from app.extensions import db
from app.services.audit import log as audit
from app.services.audit import search as audit_search
from app.services.audit.acting import refuse
from tests.api.test_downloads import planted
from tests.conftest import PASSWORD, panel_in, signed_in

SAFE = {"GET", "HEAD", "OPTIONS"}


def entries(app: Flask) -> list[dict[str, Any]]:
    """All of them, oldest first."""
    with app.app_context():
        found = [json.loads(each) for each in "".join(audit_search.export_lines()).splitlines()]
        assert audit.verify()[0] == len(found)
        return found


def after(app: Flask, known: int) -> list[tuple[str, ...]]:
    """What came after the first so many, in short."""
    keys = ("face", "actor", "action", "subject", "outcome", "detail")
    return [tuple(each[key] for key in keys) for each in entries(app)[known:]]


def commands(group: click.Group, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, (*words, name))
        else:
            found.append(((*words, name), command))
    return found


def test_every_unsafe_route_is_recorded_or_stands_in_the_list(panel: Flask):
    """By asking each of them: no name is trusted, and no mark that could be forgotten."""
    filename = planted(panel)
    unsafe = [
        (method, rule)
        for rule in panel.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - SAFE)
    ]
    assert len(unsafe) > 25
    assert {rule.endpoint for _, rule in unsafe} >= set(auditing.UNRECORDED_ROUTES)
    ann = signed_in(panel)
    before = len(entries(panel))
    missed = []
    for method, rule in unsafe:
        built = rule.build(dict.fromkeys(rule.arguments, filename))
        assert built is not None
        if rule.endpoint.endswith((".delete", ".delete_all")) and "session" in rule.endpoint:
            client = signed_in(panel)
            before += 1
        else:
            client = ann
        client.open(built[1], method=method, json={"not": "expected"})
        now = len(entries(panel))
        is_listed = rule.endpoint in auditing.UNRECORDED_ROUTES
        if now != before + (not is_listed):
            missed.append(f"{method} {rule.endpoint}")
        before = now
    assert missed == []


def test_every_route_that_hands_something_out_is_recorded(panel: Flask):
    endpoints = {rule.endpoint for rule in panel.url_map.iter_rules()}
    handing_out = {
        each for each in endpoints if each.rpartition(".")[2] in ("download", "export")
    } | set(auditing.RECORDED_READS)
    assert handing_out >= {"admin.backups.download", "api.backups.download", "api.settings.show"}
    assert all(auditing.action_of_route(each, "GET") for each in handing_out & endpoints)


def test_every_command_is_recorded_or_stands_in_the_list(panel: Flask):
    ours = {
        words: command
        for words, command in commands(panel.cli)
        if str(getattr(command.callback, "__module__", "")).startswith("app.")
    }
    assert all(isinstance(each, TellingCommand) for each in ours.values())  # which records
    assert ("backup", "delete") in ours
    plain = {".".join(words) for words in ours if not auditing.action_of_command(words)}
    reading = {each for each in plain if each.rpartition(".")[2] in ("list", "show", "status")}
    assert reading >= {"admin.list", "audit.list", "backup.list", "backup.show", "restore.show"}
    assert plain - reading == set(auditing.UNRECORDED_COMMANDS)


def test_routes_that_are_added_later_are_recorded_without_a_mark(
    tmp_path: Path, sqlite_template: Path
):
    with panel_in(tmp_path, sqlite_template) as app:
        attachment = {"Content-Disposition": "attachment; filename=x"}
        later = {
            "api.pins.create": ("/api/admin/pins/<name>", lambda name: name, "POST"),
            "admin.pins.fetch": ("/admin/fetch", lambda: ("all", 200, attachment), "GET"),
            "api.pins.sorry": (
                "/api/admin/sorry",
                lambda: refuse("No. Later.") or flash("Or so.", "danger") or "",
                "PUT",
            ),
            "api.pins.warned": (
                "/api/admin/warned",
                lambda: flash("Done, but look at it.", "warning") or "",
                "PUT",
            ),
            "api.pins.bug": ("/api/admin/bug", lambda: 1 // 0, "POST"),
            "admin.pins.index": ("/admin/pins", lambda: "all", "GET"),
        }
        for endpoint, (rule, view, method) in later.items():
            app.add_url_rule(rule, endpoint, view, methods=[method])
        ann = signed_in(app)
        ann.post("/api/admin/pins/a.dump")
        ann.get("/admin/fetch")
        ann.put("/api/admin/sorry")
        ann.put("/api/admin/warned")
        ann.post("/api/admin/bug")
        ann.get("/admin/pins")
        found = after(app, 1)
        assert found == [
            ("api", "admin", "pin.create", "a.dump", "done", ""),
            ("admin", "admin", "pin.fetch", "", "done", ""),
            ("api", "admin", "pin.sorry", "", "refused", "No. Later."),
            ("api", "admin", "pin.warned", "", "done", ""),
            ("api", "admin", "pin.bug", "", "failed", found[4][5]),
        ]


def form_of(client: FlaskClient, path: str, **fields: str) -> dict[str, str]:
    token = client.get(path).text.partition('name="csrf_token"')[2].partition('value="')[2]
    return {"csrf_token": token.partition('"')[0], **fields}


def test_what_is_done_over_the_api_and_pages(panel: Flask):
    filename = planted(panel)
    known = len(entries(panel))
    ann = signed_in(panel)
    backup = f"/api/admin/backup/{filename}"
    ann.patch(backup, json={"notes": "x"})
    ann.patch(backup, json={"notes": 5})
    ann.get(backup, buffered=True)
    ann.get(backup, headers={"Range": "bytes=1-2"}, buffered=True)
    ann.get(f"{backup}x")
    ann.get("/api/admin/settings")
    page = f"/admin/backup/{filename}"
    ann.post(f"{page}/delete", data=form_of(ann, f"{page}/delete", name="wrong"))
    ann.post(f"{page}/delete", data={"name": "shop"})
    ann.post(f"{page}/cancel", data=form_of(ann, f"{page}/delete"))
    ann.delete(backup)
    ann.post("/admin/logout", data=form_of(ann, "/admin/backup"))
    found = after(panel, known)
    assert [each[2:5] for each in found] == [
        ("session.create", "", "done"),
        ("backup.update", filename, "done"),
        ("backup.update", filename, "refused"),
        ("backup.download", filename, "done"),
        ("backup.download", filename, "done"),
        ("backup.download", f"{filename}x", "refused"),
        ("settings.export", "", "done"),
        ("backup.delete", filename, "refused"),
        ("backup.delete", filename, "refused"),
        ("backup.cancel", filename, "refused"),
        ("backup.delete", filename, "done"),
        ("session.delete", "", "done"),
    ]
    assert {each[1] for each in found} == {"admin"}
    assert [each[0] for each in found] == ["api"] * 7 + ["admin"] * 3 + ["api", "admin"]
    assert found[2][5] == "invalid request"
    assert found[7][5].startswith("Type ")
    assert "CSRF" in found[8][5]
    assert "has ended" in found[9][5]


def test_a_password_is_never_kept_and_a_flood_is_recorded_once(panel: Flask):
    known = len(entries(panel))
    visitor = panel.test_client()
    bad = {"username": "eve\n" + "x" * 10_000, "password": "canary-password"}
    for _ in range(15):
        visitor.post("/api/admin/session", json=bad)
    found = entries(panel)[known:]
    assert [each["detail"] for each in found] == [
        *["the username or the password is wrong"] * 10, "too many failed sign-ins",
    ]  # fmt: skip
    assert {(each["action"], each["outcome"]) for each in found} == {("session.create", "refused")}
    assert all(each["actor"].startswith("eve\\nxxx") for each in found)
    assert all(len(each["actor"]) == 255 for each in found)
    assert "canary" not in json.dumps(found)
    visitor.environ_base["REMOTE_ADDR"] = "127.0.0.9"
    for _ in range(3):
        visitor.post("/api/admin/backup")
        visitor.post("/admin/backup")
        visitor.post("/api/admin/session", json=[])
        visitor.post("/admin/login", data={"username": "a"})
        visitor.get("/api/admin/audit/export", environ_base={"REMOTE_ADDR": "2001:db8::1"})
        visitor.get("/api/admin/audit/export", environ_base={"REMOTE_ADDR": "2001:db8::2"})
        visitor.post("/nowhere")
        visitor.post("/api/admin/nowhere")
    again = entries(panel)[known + 11 :]
    assert sorted((each["actor"], each["action"], each["origin"]) for each in again) == [
        ("", "audit.export", "2001:db8::/64"),
        ("", "backup.create", "127.0.0.9"),
        ("", "session.create", "127.0.0.9"),
        ("", "session.create", "127.0.0.9"),
    ]


def test_the_answer_stands_where_the_entry_cannot_be_written(
    tmp_path: Path, sqlite_template: Path, caplog: pytest.LogCaptureFixture
):
    with panel_in(tmp_path, sqlite_template) as app:
        ann = signed_in(app)
        with app.app_context():
            db.session.execute(
                text(
                    "CREATE TRIGGER full BEFORE INSERT ON audit_entries"
                    " BEGIN SELECT RAISE(ABORT, 'no room'); END"
                )
            )
            db.session.commit()
        body = {"name": "one", "statement": "SELECT true"}
        assert ann.post("/api/admin/assertions", json=body).status_code == 201
        assert "AUDIT ENTRY NOT WRITTEN action=assertion.create" in caplog.text
        assert "no room" in caplog.text
        assert len(ann.get("/api/admin/assertions").get_json()["assertions"]) == 1
        assert (
            app.test_cli_runner().invoke(args=["assertion", "remove", "one", "--yes"]).exit_code
            == 0
        )
        assert len(entries(app)) == 1


def test_what_is_done_in_a_terminal(tmp_path: Path, sqlite_template: Path):
    with panel_in(tmp_path, sqlite_template) as app:
        run = app.test_cli_runner()
        run.invoke(args=["assertion", "add", "one", "SELECT 'secret'"])
        run.invoke(args=["assertion", "add", "one", "SELECT 'secret'"])
        run.invoke(args=["assertion", "remove", "one"], input="n\n")
        run.invoke(args=["assertion", "list"])
        run.invoke(args=["settings", "export"])
        run.invoke(args=["backup", "notes", "no.dump", "x"])
        run.invoke(args=["admin", "create", "bob"], input=f"{PASSWORD}\n")
        run.invoke(args=["backup", "create", "-q"])
        found = after(app, 0)
        assert {each[0] for each in found} == {"cli"}
        assert "" not in {each[1] for each in found} | {each["origin"] for each in entries(app)}
        assert [each[2:] for each in found[:6]] == [
            ("assertion.create", "one", "done", ""),
            ("assertion.create", "one", "refused", 'there is an assertion "one" already'),
            ("assertion.delete", "one", "refused", "not confirmed"),
            ("settings.export", "", "done", ""),
            ("backup.update", "no.dump", "refused", "no backup has this name"),
            ("admin.create", "bob", "done", ""),
        ]
        made = found[6]
        assert made[2] == "backup.create"
        assert made[3].endswith(".dump")
        assert made[4] == "failed"
        assert "secret" not in json.dumps(found)
        assert PASSWORD not in json.dumps(found)


def test_entries_are_one_log_line_each(panel: Flask, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "app"):
        signed_in(panel)
    told = [each.getMessage() for each in caplog.records if each.name == "app.services.audit.log"]
    head = entries(panel)[-1]["hash"]
    assert len(told) == 1
    assert "action='session.create' subject='' outcome='done' detail='' " in told[0]
    assert told[0].endswith(f"hash='{head}'")
