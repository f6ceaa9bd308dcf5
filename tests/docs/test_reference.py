"""No setting, command, call, alarm or check is undocumented, or documented twice."""

import re
from collections.abc import Iterator
from dataclasses import fields

import click
from flask import Flask
from flask.testing import FlaskClient

from app.config import ROOT, Settings
from app.models import Fact

ALARMS = (ROOT / "docs/reference/alarms.md").read_text(encoding="utf-8")
API = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
DOCTOR = (ROOT / "docs/reference/doctor.md").read_text(encoding="utf-8")
MONITORING = (ROOT / "docs/reference/monitoring.md").read_text(encoding="utf-8")
TERMINAL = (ROOT / "docs/reference/terminal.md").read_text(encoding="utf-8")
#: Flask's and Flask-Migrate's own.
NOT_OURS = {"db", "routes", "run", "shell"}
#: Settings whose names others use too.
PLAIN = {"DATABASE_URL", "SECRET_KEY"}


def commands_of(group: click.Group, words: str = "flask") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{words} {name}")
        elif not command.hidden:
            yield f"{words} {name}"


def test_every_call_stands_once_in_the_table(app: Flask):
    listed = re.findall(r"^\| \[`([A-Z]+) (/[^`?]*)`\]", API, re.MULTILINE)
    calls = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    named = {(method, re.sub(r"<\w+_id>", "<id>", path)) for method, path in calls}
    assert sorted(named - set(listed)) == []
    assert sorted(set(listed) - named) == []
    assert len(listed) == len(set(listed))


def test_every_address_for_machines_stands_once_among_them(app: Flask):
    rules = {each.rule for each in app.url_map.iter_rules()}
    of_people = ("/admin", "/api", "/static", "/bootstrap")
    addresses = {rule for rule in rules if rule != "/" and not rule.startswith(of_people)}
    listed = re.findall(r"^\| `(/[a-z]+)` \|", MONITORING, re.MULTILINE)
    assert sorted(listed) == sorted(addresses)


def test_every_command_stands_once_in_the_table(app: Flask):
    ours = [
        command
        for name, found in app.cli.commands.items()
        if name not in NOT_OURS
        for command in (
            commands_of(found, f"flask {name}")
            if isinstance(found, click.Group)
            else [f"flask {name}"]
        )
    ]
    listed = re.findall(r"^\| `(flask [a-z -]*[a-z])", TERMINAL, re.MULTILINE)
    assert sorted(listed) == sorted(ours)


def test_every_setting_is_documented_once():
    headings = re.findall(r"^### (.+)$", SETTINGS, re.MULTILINE)
    documented = [name for each in headings for name in re.findall(r"`([A-Z_]+)`", each)]
    names = {each.name.upper() for each in fields(Settings)}
    known = {name if name in PLAIN else f"BACKSTOP_{name}" for name in names}
    assert sorted(documented) == sorted(known)


def named_in_rows(page: str) -> list[str]:
    """What the first cells of its tables name."""
    cells = re.findall(r"^\| (`[^|]*`) \|", page, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_fact_stands_once_among_the_alarms():
    good_news = re.findall(r"good news: `([a-z-]+)` and `([a-z-]+)`", ALARMS)
    documented = named_in_rows(ALARMS) + list(good_news[0])
    assert sorted(documented) == sorted(fact.value for fact in Fact)


def test_every_check_of_the_doctor_stands_once_in_the_table(admin: FlaskClient):
    answer = admin.get("/api/admin/doctor").get_json()
    subjects = [finding["subject"] for finding in answer["findings"]]
    assert sorted(named_in_rows(DOCTOR)) == sorted(subjects)
