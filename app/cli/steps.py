"""Steps of a test, as the terminal shows them."""

from collections.abc import Sequence

import click

from app.formatting import printable
from app.steps import Step

_WORDS = {True: ("passed", "green"), False: ("failed", "red"), None: ("-", None)}


def print_steps(steps: Sequence[Step]) -> None:
    """Print a line for each step, and its hint below."""
    width = max(len(step.name) for step in steps)
    for step in steps:
        word, colour = _WORDS[step.passed]
        state = click.style(f"{word:<6}", fg=colour)
        click.echo(f"{state}  {step.name:<{width}}  {printable(step.detail)}")
        if step.hint:
            click.echo(f"{'':{width + 10}}{printable(step.hint)}")
