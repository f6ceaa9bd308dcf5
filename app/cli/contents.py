"""flask backup contents, schema and compare: what a backup holds, and what has changed."""

import shutil
import sys

import click

from app.cli.completion import backup_names
from app.cli.groups import CatalogueCommand, examples, json_option, json_text
from app.cli.tables import print_table
from app.formatting import bytes_text
from app.postgres.selection import written
from app.schemas.reports import comparison_row
from app.services.restores.comparison import Comparison, TableChange, compare_backups
from app.services.restores.schema import open_schema
from app.services.restores.tables import SORTS, list_contents


@click.command("contents", cls=CatalogueCommand)
@click.argument("name", shell_complete=backup_names)
@click.option("--search", default="", help="Only tables whose names contain this.")
@click.option("--sort", type=click.Choice(SORTS), default="name", show_default=True)
@json_option
def contents(name: str, search: str, sort: str, as_json: bool) -> None:
    """List the tables of a backup, with their rows and sizes.

    flask backup restore --tables takes these names.
    """
    page = list_contents(name, query=search, sort=sort)
    if as_json:
        content = {"tables": page.tables, "total": page.total}
        click.echo(json_text(content))
        return
    rows = []
    for table in page.tables:
        remarks = {"partitioned": table["isPartitioned"], "of an extension": table["isOfExtension"]}
        remark = ", ".join(word for word, applies in remarks.items() if applies)
        rows.append(
            (
                written(table["schema"], table["name"]),
                _number(table["rows"]),
                _size(table["bytes"]),
                remark,
            )
        )
    print_table(("Table", "Rows", "Size", "Remark"), rows, nothing="There are no such tables.")


@click.command(
    "schema",
    cls=CatalogueCommand,
    epilog=examples("flask backup schema backup_2026-11-23T13-51-57-344Z.dump | less"),
)
@click.argument("name", shell_complete=backup_names)
def schema(name: str) -> None:
    """Print the SQL that creates all that a backup holds, without rows."""
    with open_schema(name).file as file:
        shutil.copyfileobj(file, sys.stdout.buffer)


@click.command(
    "compare",
    cls=CatalogueCommand,
    epilog=examples("flask backup compare backup_2026-11-23T13-51-57-344Z.dump"),
)
@click.argument("name", shell_complete=backup_names)
@click.argument("earlier", default="", shell_complete=backup_names)
@json_option
def compare(name: str, earlier: str, as_json: bool) -> None:
    """Show what has changed since an EARLIER backup, the last full one by default.

    Rows are compared by their number and bytes, other objects by their definition and owner.
    Nothing is restored.
    """
    comparison = compare_backups(name, earlier)
    if as_json:
        click.echo(json_text(comparison_row(comparison)))
        return
    _print_changes(comparison)


def _print_changes(comparison: Comparison) -> None:
    tables, objects = comparison.tables, comparison.objects
    rows = [
        (
            written(table.schema, table.name),
            table.change.value,
            _difference(table),
        )
        for table in tables.first
    ]
    print_table(
        ("Table", "Change", "Difference"), rows, nothing="Each table has as many rows as before."
    )
    if objects is None:
        click.echo("Other objects are not known: the dump of one of the two is not here.", err=True)
        return
    rows = [
        (".".join(filter(None, (changed.schema, changed.name))), changed.change.value, changed.kind)
        for changed in objects.first
    ]
    print_table(("Object", "Change", "Kind"), rows, nothing="No other object has changed.")
    for name, total, shown in (
        ("tables", tables.total, tables.first),
        ("objects", objects.total, objects.first),
    ):
        if total > len(shown):
            click.echo(f"These are {len(shown):,} of {total:,} changed {name}.", err=True)


def _difference(table: TableChange) -> str:
    if table.before.rows != table.now.rows:
        return f"{_number(table.before.rows)} → {_number(table.now.rows)} rows"
    return f"{_size(table.before.bytes)} → {_size(table.now.bytes)}"


def _size(size: int | None) -> str:
    return "–" if size is None else bytes_text(size)


def _number(rows: int | None) -> str:
    return "–" if rows is None else f"{rows:,}"
