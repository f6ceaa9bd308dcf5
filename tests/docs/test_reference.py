"""No setting, command or call is undocumented, or documented twice."""

import re
from collections.abc import Iterator
from dataclasses import fields

import click
from flask import Flask

from app.config import ROOT, Settings

API = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
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
    listed = re.findall(r"^\| `(flask [a-z ]*[a-z])", TERMINAL, re.MULTILINE)
    assert sorted(listed) == sorted(ours)


def test_every_setting_is_documented_once():
    headings = re.findall(r"^### (.+)$", SETTINGS, re.MULTILINE)
    documented = [name for each in headings for name in re.findall(r"`([A-Z_]+)`", each)]
    names = {each.name.upper() for each in fields(Settings)}
    known = {name if name in PLAIN else f"BACKSTOP_{name}" for name in names}
    assert sorted(documented) == sorted(known)
