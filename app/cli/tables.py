"""Tables: drawn on a terminal; plain, whole lines where a program or a log reads them."""

import sys
from collections.abc import Sequence
from typing import Literal

import click
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from app.formatting import printable

_GAP = 2  # spaces between columns
_LONGEST_WORD = 40  # characters; names of dumps are shorter

#: Headings of columns that are aligned to the right.
_NUMBERS = ("Copies", "Rows", "Size")

#: The colours of cells that begin with these words.
_STYLES = {
    "COMPLETED": "green",
    "DAMAGED": "red",
    "FAILED": "red",
    "LATE": "red",
    "MISSING": "red",
    "PENDING": "yellow",
    "PROOF FAILED": "red",
    "paused": "yellow",
}


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, nothing: str) -> None:
    """Print rows, of which the first cell is the name; or, beside the output, that there are none.

    A terminal gets headings, and long cells wrapped between words. Elsewhere each row is a
    line, without headings or colours, and columns are two spaces apart.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(nothing, err=True)
    elif sys.stdout.isatty():
        _draw(headings, cells)
    else:
        _print_plain(headings, cells)


def _draw(headings: Sequence[str], rows: list[list[str]]) -> None:
    console = Console(file=sys.stdout, highlight=False)
    room = console.width - _GAP * (len(headings) - 1)
    widths = _fitted(list(zip(headings, *rows, strict=True)), room)
    if sum(widths) > room:
        _draw_beneath_each_other(console, rows)
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for heading, width in zip(headings, widths, strict=True):
        table.add_column(heading, justify=_alignment(heading), width=width)
    for row in rows:
        table.add_row(*map(_coloured, row))
    console.print(table)


def _draw_beneath_each_other(console: Console, rows: list[list[str]]) -> None:
    """On a narrow terminal: the name, and below it the other cells."""
    for name, *others in rows:
        console.print(Text(name, style="bold"), soft_wrap=True)  # never cut: it is copied
        cells = Text(" " * _GAP).join(_coloured(cell) for cell in others if cell)
        console.print(Padding(cells, (0, 0, 0, _GAP)))


def _fitted(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """The widths of columns, of which the widest are narrowed to fit, as far as words allow."""
    least = list(map(_narrowest, columns))
    widths = [max(map(cell_len, column)) for column in columns]
    while sum(widths) > max(room, sum(least)):
        narrowed = [at for at, width in enumerate(widths) if width > least[at]]
        widths[max(narrowed, key=widths.__getitem__)] -= 1
    return widths


def _narrowest(column: Sequence[str]) -> int:
    """The width at which no word of a column is broken, except for very long ones."""
    longest = max(cell_len(word) for cell in column for word in cell.split(" "))
    return min(longest, _LONGEST_WORD)


def _print_plain(headings: Sequence[str], rows: list[list[str]]) -> None:
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = [
            " " * (width - cell_len(cell)) + cell
            if _alignment(heading) == "right"
            else cell + " " * (width - cell_len(cell))
            for heading, width, cell in zip(headings, widths, row, strict=True)
        ]
        click.echo("  ".join(line).rstrip())


def _alignment(heading: str) -> Literal["left", "right"]:
    return "right" if heading in _NUMBERS else "left"


def _coloured(cell: str) -> Text:
    style = next((style for word, style in _STYLES.items() if cell.startswith(word)), "")
    return Text(cell, style=style, overflow="fold")
