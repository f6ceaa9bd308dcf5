"""`--help` ends with examples, which work as they stand but for their names."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from flask import Flask

#: Groups that have nothing to give an example of.
_PLAIN = {"server"}


def commands_of(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from commands_of(command)
        else:
            yield command


def examples_in(command: click.Command) -> list[str]:
    return re.findall(r"^  (flask .*)$", command.epilog or "", re.MULTILINE)


def test_every_group_has_examples(app: Flask):
    groups = {
        name: group
        for name, group in app.cli.commands.items()
        if isinstance(group, click.Group) and name not in {*_PLAIN, "db"}
    }
    assert len(groups) > 10
    without = [
        name for name, group in groups.items() if not any(map(examples_in, commands_of(group)))
    ]
    assert without == []


def test_every_example_is_a_command_that_is_understood(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("keys.txt", "settings.toml", "url.txt"):
        (tmp_path / name).touch()
    lines = [line for command in commands_of(app.cli) for line in examples_in(command)]
    assert len(lines) > 25
    for line in lines:
        words = shlex.split(re.split(r" [|<] ", line)[0])[1:]
        command: click.Command = app.cli
        context = click.Context(app.cli)
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        assert line in examples_in(command)
        command.make_context(line, words, parent=context).close()


def test_examples_are_printed_line_by_line(app: Flask):
    printed = app.test_cli_runner().invoke(args=["backup", "create", "--help"]).stdout
    assert printed.endswith(
        "  Examples:\n"
        "    flask backup create --notes 'before the upgrade'\n"
        "    flask backup create --quiet --database crm\n"
    )
