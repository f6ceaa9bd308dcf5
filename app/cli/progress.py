"""The progress of a backup or a restore that runs in this terminal."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from app.describing import left_text, progress_text
from app.services.jobs.progress import Progress as JobProgress


def print_asserted(found: dict[str, Any]) -> None:
    """Print the results of assertions and pg_amcheck, one line each."""
    for answer in found.get("assertions", []):
        word = "NOT KNOWN" if answer.get("unanswered") else "NOT TRUE"
        told = "true" if answer["passed"] else f"{word} ({answer['told']})"
        click.echo(f"  assertion {answer['name']}: {told}")
    for problem in [found.get("amcheck"), *found.get("found", [])]:
        if problem:
            click.echo(f"  pg_amcheck: {problem}")


class _Tolerant(io.TextIOBase):
    """A stream whose reader may go away: that must not fail the backup."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


@contextmanager
def progress_shown(*, quiet: bool) -> Iterator[dict[str, Any]]:
    """The callbacks of a backup or restore: for a bar on a terminal, else none."""
    stream = cast("TextIO", _Tolerant(sys.stderr))
    console = Console(file=stream, quiet=quiet, highlight=False)

    if not console.is_terminal:
        yield {}
        return
    # On a narrow screen only the words may be cut.
    words = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = (
        BarColumn(16),
        TaskProgressColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[told]}", table_column=words),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        bar = progress.add_task("", total=100, told="Starting", left="")

        def show(current: JobProgress) -> None:
            progress.update(
                bar,
                completed=current.percent,
                told=escape(progress_text(current)),
                left=left_text(current),
            )

        yield {"on_progress": show}


@contextmanager
def bytes_shown(name: str, *, total: int = 0, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar for bytes on a terminal; yields what counts them."""
    console = Console(file=cast("TextIO", _Tolerant(sys.stderr)), quiet=quiet, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    words = TextColumn("{task.description}")
    columns = (words, BarColumn(16), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(escape(name), total=total or None)
        yield lambda size: progress.advance(bar, size)
