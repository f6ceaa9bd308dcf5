"""flask database: what the server of a database answers."""

import json
from collections.abc import Sequence
from typing import Any

import click

from app.cli.database import as_json_option, read_url, ssh_options
from app.cli.groups import CatalogueCommand
from app.formatting import printable
from app.postgres.connection_check import Step
from app.schemas.databases import steps_report
from app.services.databases import connection_test
from app.services.databases.connections import sample_in_use
from app.services.databases.grants import DEFAULT_ROLE, grants_for
from app.services.databases.service import Changes

_WORDS = {True: ("passed", "green"), False: ("failed", "red"), None: ("-", None)}


@click.command("test", cls=CatalogueCommand)
@click.argument("name", required=False)
@click.option("--url", help="Test this URL instead, which is not saved; - for standard input.")
@ssh_options
@as_json_option
@click.pass_context
def test(
    context: click.Context, /, name: str | None, url: str | None, as_json: bool, **ssh: Any
) -> None:
    """Test the connection to a database, step by step.

    Each step has passed or failed, or says nothing (-). Exits with 1 if one has failed.
    """
    if (name is None) == (url is None):
        raise click.UsageError("Give either NAME or --url.")
    if url is not None:
        steps = connection_test.check_url(read_url(url), Changes(**ssh))
    else:
        with sample_in_use():
            steps = connection_test.check_database(name or "")
    if as_json:
        click.echo(json.dumps(steps_report(steps), indent=2, ensure_ascii=False))
    else:
        _print(steps)
    context.exit(0 if connection_test.is_passed(steps) else 1)


@click.command("grants", cls=CatalogueCommand)
@click.argument("name")
@click.option("--role", default=DEFAULT_ROLE, show_default=True, help="The role's name.")
def grants(name: str, *, role: str) -> None:
    """Print the SQL of a role that may back up a database, and no more.

    It is made for this database and its server's version; nothing is changed. A superuser
    runs it there, for example by piping it into psql.
    """
    with sample_in_use():
        click.echo(grants_for(name, role), nl=False)


def _print(steps: Sequence[Step]) -> None:
    width = max(len(step.name) for step in steps)
    for step in steps:
        word, colour = _WORDS[step.passed]
        state = click.style(f"{word:<6}", fg=colour)
        click.echo(f"{state}  {step.name:<{width}}  {printable(step.detail)}")
        if step.hint:
            click.echo(f"{'':{width + 10}}{printable(step.hint)}")
