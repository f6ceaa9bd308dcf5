"""flask database: what the server of a database answers."""

from typing import Any

import click

from app.cli.completion import database_names
from app.cli.database import read_url, ssh_options
from app.cli.groups import CatalogueCommand, examples, json_option, json_text
from app.cli.steps import print_steps
from app.cli.tables import print_table
from app.errors import InvalidInput
from app.formatting import bytes_text
from app.host import own_user
from app.schemas.databases import neighbour_row
from app.schemas.reports import steps_report
from app.services.databases import connection_test, discovery
from app.services.databases.connections import sample_in_use
from app.services.databases.grants import DEFAULT_ROLE, grants_for
from app.services.databases.lookup import state_of
from app.services.databases.service import Changes
from app.services.schedules.service import make_first_schedules
from app.steps import is_passed


@click.command("test", cls=CatalogueCommand, epilog=examples("flask database test crm"))
@click.argument("name", shell_complete=database_names, required=False)
@click.option("--url", help="Test this URL instead, which is not saved; - for standard input.")
@ssh_options
@json_option
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
        click.echo(json_text(steps_report(steps)))
    else:
        print_steps(steps)
    context.exit(0 if is_passed(steps) else 1)


@click.command(
    "grants",
    cls=CatalogueCommand,
    epilog=examples("flask database grants crm | psql -h db1.example.org -U postgres crm"),
)
@click.argument("name", shell_complete=database_names)
@click.option("--role", default=DEFAULT_ROLE, show_default=True, help="The role's name.")
def grants(name: str, *, role: str) -> None:
    """Print the SQL of a role that may back up a database, and no more.

    It is made for this database and its server's version; nothing is changed. A superuser
    runs it there, for example by piping it into psql.
    """
    with sample_in_use():
        click.echo(grants_for(name, role), nl=False)


@click.command(
    "discover",
    cls=CatalogueCommand,
    epilog=examples("flask database discover crm --add billing=billing"),
)
@click.argument("name", shell_complete=database_names)
@click.option(
    "--add",
    "added",
    metavar="DBNAME=NAME",
    multiple=True,
    help="Guard this one too, under NAME; can be repeated.",
)
@json_option
def discover(name: str, *, added: tuple[str, ...], as_json: bool) -> None:
    """List the databases on the server of a database, and which are guarded.

    With --add, guard others there: each gets the URL of NAME with another database in it.
    Either all of them are added, or none.
    """
    with sample_in_use():
        if added:
            discovery.add_neighbours(name, [_choice(text) for text in added], by=own_user())
            make_first_schedules()
        neighbours = discovery.discover(name)
    if as_json:
        rows = [neighbour_row(neighbour) for neighbour in neighbours]
        click.echo(json_text({"databases": rows}))
        return
    print_table(
        ("Database", "Size", "State"),
        list(map(_cells, neighbours)),
        nothing="The server has no databases.",
    )


def _choice(text: str) -> discovery.Choice:
    dbname, separator, name = text.rpartition("=")
    if not separator:
        raise InvalidInput(f"{text!r} is not DBNAME=NAME", hint="For example: --add crm=crm.")
    return discovery.Choice(dbname, name)


def _cells(neighbour: discovery.Neighbour) -> tuple[str, ...]:
    size, known = neighbour.on_server.size, neighbour.known
    text = "unknown size" if size is None else bytes_text(size)
    state = f"{state_of(known).value}, as {known.name}" if known else "not guarded"
    barred = "" if neighbour.on_server.may_connect else ", the role may not connect"
    return neighbour.dbname, text, f"{state}{barred}"
