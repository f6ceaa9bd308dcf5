"""flask assertion: what must be true in a restored database."""

import click

from app.cli.groups import Group, examples, json_option, json_text, of_database
from app.cli.tables import print_table
from app.host import own_user
from app.models import Database
from app.schemas.jobs import assertion_row
from app.services.proofs import assertions as service

group = Group("assertion", help="Manage SQL that must return true in every restored database.")


@group.command("list", epilog=examples("flask assertion list --database crm"))
@json_option
@of_database
def list_(as_json: bool, database: Database) -> None:
    """List the assertions of a database."""
    assertions = service.list_assertions(database)
    if as_json:
        click.echo(
            json_text({"assertions": [assertion_row(assertion) for assertion in assertions]})
        )
        return
    rows = [(assertion.name, " ".join(assertion.statement.split())) for assertion in assertions]
    print_table(("Name", "SQL"), rows, nothing=f"{database.name} has no assertions.")


@group.command(
    "add", epilog=examples("flask assertion add orders 'SELECT count(*) > 0 FROM orders'")
)
@click.argument("name")
@click.argument("statement", metavar="SQL")
@json_option
@of_database
def add(name: str, statement: str, as_json: bool, database: Database) -> None:
    """Add an assertion: a query that returns one row with one column, true.

    It runs against every database that a drill or a restore makes of a backup, as a
    role without rights, and may only read.
    """
    added = service.add_assertion(name, statement, of=database, created_by=own_user())
    click.echo(json_text(assertion_row(added)) if as_json else f"{added.name} has been added.")


@group.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@of_database
def remove(name: str, yes: bool, database: Database) -> None:
    """Remove an assertion; its past results stay with the backups."""
    assertion = service.get_assertion_named(name, database)
    if not yes:
        click.confirm(f"Remove the assertion {assertion.name}?", abort=True)
    service.remove_assertion(assertion.id, by=own_user())
    click.echo(f"{name} has been removed.")
