"""flask backup contents: the tables that a backup holds."""

import click

from app.cli.completion import backup_names
from app.cli.groups import CatalogueCommand, json_option, json_text
from app.cli.tables import print_table
from app.formatting import bytes_text
from app.postgres.selection import written
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
        size = "–" if table["bytes"] is None else bytes_text(table["bytes"])
        number = "–" if table["rows"] is None else f"{table['rows']:,}"
        remarks = {"partitioned": table["isPartitioned"], "of an extension": table["isOfExtension"]}
        remark = ", ".join(word for word, applies in remarks.items() if applies)
        rows.append((written(table["schema"], table["name"]), number, size, remark))
    print_table(("Table", "Rows", "Size", "Remark"), rows, nothing="There are no such tables.")
