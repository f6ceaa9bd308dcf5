"""flask settings: the settings that admins change at run time, as one file."""

from typing import TextIO

import click

from app.cli.groups import Group, examples, json_option, json_text
from app.host import own_user
from app.services.settings_file import document as service

group = Group("settings", help="Export and import the settings that admins change at run time.")


@group.command("export", epilog=examples("flask settings export settings.toml"))
@click.argument("file", type=click.File("w", encoding="utf-8", atomic=True), default="-")
def export(file: TextIO) -> None:
    """Write all settings as TOML into FILE, or print them. Secrets are left out."""
    file.write(service.as_text(service.export_settings()))


@group.command("import", epilog=examples("flask settings import settings.toml --dry-run"))
@click.argument("file", type=click.File(encoding="utf-8", errors="replace"))
@click.option(
    "--exact",
    is_flag=True,
    help="Remove entries that the file does not contain; databases are retired.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@json_option
def import_(file: TextIO, exact: bool, dry_run: bool, as_json: bool) -> None:
    """Apply FILE (- for standard input): all of it, or nothing.

    It is idempotent. Entries that the file does not contain stay.
    """
    document = service.from_text(file.read(service.MAX_SIZE + 1))
    changes = service.import_settings(document, by=own_user(), exact=exact, dry_run=dry_run)
    if as_json:
        content = {"changes": changes, "dryRun": dry_run}
        click.echo(json_text(content))
        return
    for change in changes:
        click.echo(("would be: " if dry_run else "") + change)
    if not changes:
        click.echo("Nothing to change.")
