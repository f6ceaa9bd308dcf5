"""Measure Backstop beside the bare tools: `make bench`.

Everything runs on servers and panels of its own, in a temporary folder that is removed
afterwards. What each measure does is in docs/explanation/performance.md.
"""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from app.config import ROOT
from bench import report
from bench.measures import MEASURES
from bench.world import QUICK, Scale, World

RESULTS = ROOT / "bench" / "results"


@click.command()
@click.option("--quick", is_flag=True, help="A small database and three rounds.")
@click.option("--size", type=click.IntRange(1), help="MiB of the large database.")
@click.option("--rounds", type=click.IntRange(1), help="How often each way is run.")
@click.option("--only", type=click.Choice(list(MEASURES)), multiple=True, help="Can be repeated.")
@click.option("--into", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    *, quick: bool, size: int | None, rounds: int | None, only: Sequence[str], into: Path
) -> None:
    """Measure, and write the table as markdown and JSON."""
    scale = QUICK if quick else Scale()
    scale = replace(scale, megabytes=size or scale.megabytes, rounds=rounds or scale.rounds)
    with tempfile.TemporaryDirectory(prefix="backstop-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)  # the server runs as another user
        for path in run(World(folder, scale, stack), only or list(MEASURES), into):
            click.echo(path)


def run(world: World, names: Sequence[str], into: Path) -> list[Path]:
    """Run these measures; the files are written after each, so that none is lost."""
    rows: list[report.Row] = []
    paths: list[Path] = []
    setting = report.Setting.of(world)
    for name in names:
        began = time.monotonic()
        for row in MEASURES[name](world):
            click.echo(report.in_line(row))
            rows.append(row)
        click.echo(f"{name}: {time.monotonic() - began:.0f} s", err=True)
        paths = report.write(into, setting.date.replace(":", "-"), setting, rows)
    return paths


if __name__ == "__main__":
    main()
