"""flask backup contents: the tables that a backup holds."""

import json

import click

from app.cli.groups import CatalogueCommand
from app.formatting import bytes_text, printable
from app.postgres.selection import written
from app.services.restores.tables import SORTS, list_contents


@click.command("contents", cls=CatalogueCommand)
@click.argument("name")
@click.option("--search", default="", help="Only tables whose names contain this.")
@click.option("--sort", type=click.Choice(SORTS), default="name", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def contents(name: str, search: str, sort: str, as_json: bool) -> None:
    """List the tables of a backup, with their rows and sizes.

    flask backup restore --tables takes these names.
    """
    found = list_contents(name, query=search, sort=sort)
    if as_json:
        content = {"tables": found.tables, "total": found.total}
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for each in found.tables:
        size = "–" if each["bytes"] is None else bytes_text(each["bytes"])
        rows = "–" if each["rows"] is None else f"{each['rows']:,}"
        remark = "  partitioned" if each["isPartitioned"] else ""
        remark += "  of an extension" if each["isOfExtension"] else ""
        told = printable(written(each["schema"], each["name"]))
        click.echo(f"{rows:>15}  {size:>10}  {told}{remark}")
