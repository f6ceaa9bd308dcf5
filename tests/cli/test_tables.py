"""Tables: drawn on a terminal, plain lines where a program or a log reads them."""

import io
import json

import click
import pytest
from flask import Flask

from app.cli.tables import print_table

NAME = "backup_2026-11-23T12-59-30-123Z.dump"
HEADINGS = ("Backup", "Size", "Notes")
ROWS = [(NAME, "9.1 MiB", "before the upgrade of the shop " * 4), ("b", "10 Bytes", "FAILED")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> str:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    print_table(HEADINGS, ROWS, nothing="")
    return screen.getvalue()


def test_elsewhere_each_row_is_a_whole_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    print_table(HEADINGS, ROWS, nothing="")
    assert capsys.readouterr().out.splitlines() == [
        f"{NAME}   9.1 MiB  {ROWS[0][2].rstrip()}",
        f"b{' ' * 35}  10 Bytes  FAILED",
    ]


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_a_terminal_gets_headings_and_a_name_that_is_not_broken(
    monkeypatch: pytest.MonkeyPatch, columns: int
):
    drawn = on_a_terminal(monkeypatch, columns)
    assert ("Backup " in drawn) == (columns > 20)  # too narrow: the cells stand below the name
    assert all(word in drawn for row in ROWS for cell in row for word in cell.split())
    assert NAME in drawn
    assert "…" not in drawn


def test_a_terminal_gets_colours_unless_they_are_unwanted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mFAILED" in on_a_terminal(monkeypatch, 200)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in on_a_terminal(monkeypatch, 200)


def test_a_cell_does_not_command_the_terminal(monkeypatch: pytest.MonkeyPatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    print_table(("Name",), [("\x1b[2J[red]a\n",)], nothing="")
    assert "\N{REPLACEMENT CHARACTER}[2J[red]a\N{REPLACEMENT CHARACTER}" in screen.getvalue()


def test_an_empty_table_is_said_beside_the_output(capsys: pytest.CaptureFixture[str]):
    print_table(HEADINGS, [], nothing="There are no backups.")
    assert capsys.readouterr() == ("", "There are no backups.\n")


def test_every_list_is_also_json(app: Flask):
    cli = app.test_cli_runner()
    for name, group in app.cli.commands.items():
        if isinstance(group, click.Group) and "list" in group.commands:
            listed = cli.invoke(args=[name, "list", "--json"])
            assert listed.exit_code == 0, listed.output
            assert all(isinstance(rows, list | None) for rows in json.loads(listed.stdout).values())
