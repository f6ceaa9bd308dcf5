"""flask store: the stores of copies."""

from pathlib import Path
from typing import Any

import click

from app.cli.completion import store_names
from app.cli.credentials import credentials_option, read_credentials
from app.cli.groups import Group, ending_by_signals, examples, json_option, json_text
from app.cli.progress import bytes_shown
from app.cli.steps import print_steps
from app.cli.store_options import (
    catalogue_option,
    changes_in,
    databases_option,
    limit_option,
    read_back_option,
    recipients_option,
    take_over_option,
    untested_option,
)
from app.cli.tables import print_table
from app.formatting import bytes_text, copies_text, moment_short, printable, rate_text
from app.host import own_user
from app.models import Store
from app.schemas.reports import steps_report
from app.schemas.stores import store_row
from app.services.rescue.exports import export_catalogue
from app.services.stores import lookup, service, store_test
from app.services.stores.keys import forget_drill_key, make_drill_key, make_recovery_key
from app.steps import is_passed

group = Group("store", help="Copy backups to stores: another disk, S3, Google Cloud, Azure, SFTP.")


@group.command("list", epilog=examples("flask store list --json"))
@json_option
def list_(as_json: bool) -> None:
    """List the stores, each with its copies."""
    rows = lookup.list_rows()
    if as_json:
        click.echo(json_text({"stores": [store_row(row) for row in rows]}))
        return
    print_table(
        ("Store", "State", "Address", "Copies", "Size", "Encryption"),
        list(map(_cells, rows)),
        nothing="There are no stores.",
    )


@group.command("show")
@click.argument("name", shell_complete=store_names)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a store; its credentials are never shown."""
    row = lookup.get_row(name)
    if as_json:
        click.echo(json_text(store_row(row)))
        return
    store = row.store
    click.echo(_line(row))
    click.echo(f"credentials: {'stored' if store.credentials else 'none stored'}")
    names = sorted(database.name for database in store.databases)
    click.echo(f"databases: {'all' if store.takes_all else ', '.join(names)}")
    for recipient in store.recipients:
        click.echo(f"recipient: {recipient}")
    click.echo(f"read back: {store.read_back.value}")
    click.echo(f"limit: {rate_text(store.bytes_per_second) or 'none'}")
    click.echo(f"catalogue: {_exported(store)}")


@group.command(
    "add",
    epilog=examples(
        "flask store add nas file:///mnt/nas/backups",
        "flask store add s3 s3://bucket/prefix --credentials-from keys.txt",
    ),
)
@click.argument("name")
@click.argument("url")
@credentials_option
@recipients_option
@databases_option
@read_back_option
@limit_option
@catalogue_option
@take_over_option
@untested_option
@json_option
def add(
    name: str, url: str, *, take_over: bool, untested: bool, as_json: bool, **options: Any
) -> None:
    """Copy backups to the store at a URL, such as file:///mnt/nas/backups or s3://bucket/prefix.

    The URL contains no secret. Without --credentials-from, S3, Google Cloud and Azure take
    those of the environment, or of the machine's role. The store is asked at once, and
    marked as this panel's.
    """
    asking = service.Asking(is_asked=not untested, take_over=take_over)
    store = service.add_store(name, url, changes_in(options), asking=asking, by=own_user())
    if as_json:
        click.echo(json_text(store_row(lookup.get_row(name))))
        return
    click.echo(f"{name} has been added: {store.address}.")
    if not store.recipients:
        click.echo("Its copies are not encrypted: whoever can read the store can read the data.")
        click.echo(f"Encrypt them: flask store recovery-key {name}")
    click.echo(f"Test it:      flask store test {name}")


@group.command("edit")
@click.argument("name", shell_complete=store_names)
@click.option("--rename", metavar="NAME", help="The new name.")
@click.option("--url", help="The new URL.")
@credentials_option
@click.option("--no-credentials", is_flag=True, help="Forget the credentials that are stored.")
@recipients_option
@click.option("--not-encrypted", is_flag=True, help="Encrypt new copies no more.")
@databases_option
@click.option("--all-databases", is_flag=True, help="Copy backups of all databases.")
@read_back_option
@limit_option
@catalogue_option
@take_over_option
@untested_option
def edit(
    name: str,
    *,
    rename: str | None,
    url: str | None,
    take_over: bool,
    untested: bool,
    **options: Any,
) -> None:
    """Change a store; what is not given stays as it is.

    Recipients that are given replace the present ones, and so do databases.
    """
    asking = service.Asking(is_asked=not untested, take_over=take_over)
    changes = changes_in(options, name=rename, url=url)
    edited = service.edit_store(name, changes, asking=asking, by=own_user())
    click.echo(f"{edited.name} has been saved.")


@group.command("test", epilog=examples("flask store test nas"))
@click.argument("name", shell_complete=store_names, required=False)
@click.option("--url", help="Test this URL instead, which is not saved.")
@credentials_option
@json_option
@click.pass_context
def test(
    context: click.Context,
    /,
    name: str | None,
    url: str | None,
    credentials_from: Path | None,
    as_json: bool,
) -> None:
    """Test a store, step by step: write, read back, list and remove a small object.

    Each step has passed or failed, or says nothing (-). Exits with 1 if one has failed.
    """
    if (name is None) == (url is None):
        raise click.UsageError("Give either NAME or --url.")
    if url is not None:
        changes = service.Changes(credentials=read_credentials(credentials_from))
        steps = store_test.check_url(url, changes)
    else:
        steps = store_test.check_saved(name or "")
    if as_json:
        click.echo(json_text(steps_report(steps)))
    else:
        print_steps(steps)
    context.exit(0 if is_passed(steps) else 1)


@group.command("pause")
@click.argument("name", shell_complete=store_names)
def pause(name: str) -> None:
    """Copy nothing more to a store until it is resumed."""
    service.pause_store(name, by=own_user())
    click.echo(f"{name} is paused: nothing is copied to it.")


@group.command("resume")
@click.argument("name", shell_complete=store_names)
def resume(name: str) -> None:
    """Copy to a paused store again."""
    service.resume_store(name, by=own_user())
    click.echo(f"{name} is active: backups are copied to it.")


@group.command("remove")
@click.argument("name", shell_complete=store_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> None:
    """Forget a store and its copies; nothing is removed from the store itself."""
    row = lookup.get_row(name)
    if not yes:
        question = f"Forget {name}? {copies_text(row.copies)} stay at {row.store.address}."
        click.confirm(question, abort=True)
    left = service.remove_store(name, by=own_user())
    click.echo(f"{name} has been removed. {copies_text(left)} stay at {row.store.address}.")


@group.command("recovery-key")
@click.argument("name", shell_complete=store_names)
def recovery_key(name: str) -> None:
    """Make a key that reads all later copies in a store, and print it, only this once.

    Keep it where neither this machine nor the store can lose or show it. Backstop keeps
    the public part alone.
    """
    store = lookup.get_store(name)
    identity = make_recovery_key(name, by=own_user())
    click.echo(f"# Recovery key of the store {name}, {store.address}")
    click.echo(f"# public key: {identity.recipient.key}")
    click.echo(identity.secret)
    click.echo("This key is not stored, and cannot be shown again: keep it safe.", err=True)


@group.command("drill-key")
@click.argument("name", shell_complete=store_names)
@click.option("--forget", is_flag=True, help="Forget it, and encrypt to it no longer.")
def drill_key(name: str, forget: bool) -> None:
    """Make a key with which the panel itself reads all later copies in a store.

    It lets the panel fetch encrypted copies, prove that they can be decrypted, and copy them
    to other stores. Whoever has the catalogue and SECRET_KEY can read them too.
    """
    if forget:
        forget_drill_key(name, by=own_user())
        click.echo(f"The panel reads no later copy in {name}.")
        return
    make_drill_key(name, by=own_user())
    click.echo(f"The panel reads later copies in {name}; older ones: flask copy reencrypt {name}")


@group.command("export-catalogue")
@click.argument("name", shell_complete=store_names)
@click.option("--quiet", is_flag=True, help="Print no progress.")
def export_catalogue_(name: str, quiet: bool) -> None:
    """Export the panel's own catalogue to a store now; the newest seven exports are kept.

    A worker does it each day, where the store has recipients or takes it anyway: flask store
    edit NAME --catalogue always. flask recover restores it.
    """
    with ending_by_signals(), bytes_shown("catalogue", quiet=quiet) as on_block:
        mark = export_catalogue(name, by=own_user(), on_block=on_block)
    encrypted = "encrypted" if mark.is_encrypted else "NOT encrypted"
    click.echo(f"The catalogue is in {name}, {encrypted}: {mark.key}")


def _exported(store: Store) -> str:
    """Whether the catalogue is exported to it, and when it was last."""
    last = f", last {moment_short(store.exported_at)}" if store.exported_at else ""
    failed = f"; FAILED: {printable(store.export_error)}" if store.export_error else ""
    return f"{'exported each day' if store.gets_catalogue else 'not exported'}{last}{failed}"


def _cells(row: lookup.Row) -> tuple[str, ...]:
    store = row.store
    state = "paused" if store.is_paused else "active"
    encrypted = "encrypted" if store.recipients else "not encrypted"
    copies, size = copies_text(row.copies), bytes_text(row.size)
    return store.name, state, store.address, copies, size, encrypted


def _line(row: lookup.Row) -> str:
    return "  ".join(_cells(row))
