"""Tables: drawn on a terminal; plain, whole lines where a program or a log reads them."""

import sys
from collections.abc import Sequence
from typing import Literal

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.formatting import printable

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

    A terminal gets headings, and long cells wrapped. Elsewhere each row is a line, without
    headings or colours, and columns are two spaces apart.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(nothing, err=True)
    elif sys.stdout.isatty():
        _draw(headings, cells)
    else:
        _print_plain(headings, cells)


def _draw(headings: Sequence[str], rows: list[list[str]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    names, *others = headings
    # A name is copied to the next command, so it is never broken.
    table.add_column(names, no_wrap=True, min_width=max(cell_len(row[0]) for row in rows))
    for heading in others:
        table.add_column(heading, justify=_alignment(heading), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_style_of(cell)) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table, crop=False)


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


def _style_of(cell: str) -> str:
    return next((style for word, style in _STYLES.items() if cell.startswith(word)), "")
