"""flask copy: copies of backups in stores."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from app.cli.completion import backup_names, store_names
from app.cli.groups import (
    Group,
    ending_by_signals,
    examples,
    identity_option,
    json_option,
    json_text,
    read_identities,
)
from app.cli.progress import bytes_shown
from app.cli.tables import print_table
from app.encryption import Identity
from app.errors import AppError, Interrupted
from app.formatting import bytes_text, moment_short, printable
from app.host import own_user
from app.models import Copy, Trigger
from app.schemas.copies import copy_row
from app.services.copies import service
from app.services.copies.fetch import fetch_copy
from app.services.copies.reencrypt import list_outdated, reencrypt_copy
from app.services.copies.run import run_claimed
from app.services.copies.verify import verify_copy
from app.services.jobs import claims

group = Group("copy", help="Manage the copies of backups in stores.")

_store = click.option(
    "--store", default="", shell_complete=store_names, metavar="NAME", help="Only in this store."
)
_PATIENCE = 24 * 3600.0  # seconds for a copy that a worker makes

_quiet = click.option("--quiet", is_flag=True, help="Print no progress.")


@group.command("list", epilog=examples("flask copy list --store nas"))
@click.option(
    "--backup", "filename", default="", shell_complete=backup_names, help="Only of this backup."
)
@_store
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@json_option
def list_(filename: str, store: str, limit: int, as_json: bool) -> None:
    """List copies, those of the newest backups first."""
    copies = service.list_copies(filename=filename, store=store, limit=limit)
    names = service.names_of_stores()
    if as_json:
        rows = [copy_row(copy, names[copy.store_id]) for copy in copies]
        click.echo(json_text({"copies": rows}))
        return
    print_table(
        ("Backup", "Store", "State"),
        [(copy.filename, names[copy.store_id], _state(copy)) for copy in copies],
        nothing="There are no copies.",
    )


@group.command("make", epilog=examples("flask copy make backup_2026-11-23T13-51-57-344Z.dump nas"))
@click.argument("filename", shell_complete=backup_names, metavar="BACKUP")
@click.argument("store", shell_complete=store_names)
@_quiet
def make(filename: str, store: str, quiet: bool) -> None:
    """Copy a backup to a store now, in this terminal, unless it is there already."""
    with ending_by_signals(), bytes_shown(filename, quiet=quiet):
        copy = service.wanted_copy(filename, store, trigger=Trigger.CLI, by=own_user())
        if copy.is_pending and claims.claim(copy.id, Copy):
            run_claimed(copy.id)
        service.wait_for_copy(copy.id, _PATIENCE)  # a worker may have been quicker
        copy = service.completed(copy.id)
    click.echo(f"{filename} is in {store} ({bytes_text(copy.size)}).")


@group.command("verify")
@click.argument("filename", shell_complete=backup_names, metavar="BACKUP")
@_store
@_quiet
def verify(filename: str, store: str, quiet: bool) -> None:
    """Read a copy back and compare its SHA-256. Exits with 1 if it is missing or damaged."""
    copy = service.find_copy(filename, store)
    with bytes_shown(filename, total=copy.size, quiet=quiet) as on_block:
        verified = verify_copy(copy.id, on_block)
    if verified.loss is not None:
        click.echo(f"The copy is {verified.loss.value}: {verified.error_message}.", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"The copy of {filename} is whole.")


@group.command(
    "fetch",
    epilog=examples(
        "flask copy fetch backup_2026-11-23T13-51-57-344Z.dump --store nas --identity key.txt"
    ),
)
@click.argument("filename", shell_complete=backup_names, metavar="BACKUP")
@_store
@identity_option
@_quiet
def fetch(filename: str, store: str, identity_files: tuple[Path, ...], quiet: bool) -> None:
    """Bring a copy back into the folder of the dumps, checked, so that it can be restored."""
    copy = service.find_copy(filename, store)
    identities = read_identities(identity_files)
    with ending_by_signals(), bytes_shown(filename, total=copy.size, quiet=quiet) as on_block:
        fetch_copy(copy.id, by=own_user(), identities=identities, on_block=on_block)
    click.echo(f"{filename} is here again: flask backup restore {filename}")


@group.command("reencrypt")
@click.argument("store", shell_complete=store_names)
@click.option(
    "--backup",
    "filename",
    default="",
    shell_complete=backup_names,
    help="Only the copy of this backup.",
)
@identity_option
@_quiet
def reencrypt(store: str, filename: str, identity_files: tuple[Path, ...], quiet: bool) -> None:
    """Encrypt copies to the recipients that their store has now, after those were changed.

    Each one is decrypted with the identity, and read back before it replaces the old one.
    Copies that are encrypted to these recipients already are left alone, so that it can be
    ended and started again. Exits with 1 if one could not be encrypted.
    """
    identities, ends = read_identities(identity_files), Counter[bool]()
    with ending_by_signals():
        for copy in list_outdated(store, filename):
            ends[_reencrypted(copy, identities, quiet=quiet)] += 1
    click.echo(f"{ends[True]} encrypted anew, {ends[False]} not.")
    if ends[False]:
        raise click.exceptions.Exit(1)


@group.command("cancel")
@click.argument("copy_id", metavar="ID")
def cancel(copy_id: str) -> None:
    """Cancel a copy that waits or is being made."""
    service.cancel_copy(copy_id, by=own_user())
    click.echo("The copy has been cancelled.")


@group.command("remove")
@click.argument("filename", shell_complete=backup_names, metavar="BACKUP")
@click.argument("store", shell_complete=store_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(filename: str, store: str, yes: bool) -> None:
    """Remove a copy from its store; the backup itself stays."""
    copy = service.get_copy_in(filename, store)
    if not yes:
        click.confirm(f"Remove the copy of {filename} from {store}?", abort=True)
    service.remove_copy(copy.id, by=own_user())
    click.echo(f"The copy of {filename} has been removed from {store}.")


def _reencrypted(copy: Copy, identities: Sequence[Identity], *, quiet: bool) -> bool:
    """Encrypt one anew, and say how that ended."""
    name = copy.filename
    try:
        with bytes_shown(name, total=2 * copy.size, quiet=quiet) as on_block:
            is_gone = reencrypt_copy(
                copy.id, by=own_user(), identities=identities, on_block=on_block
            )
    except Interrupted:
        raise
    except AppError as error:
        click.echo(f"{name}: {error.in_words()}", err=True)
        return False
    click.echo(f"{name} is encrypted anew{'' if is_gone else '; its old object stays'}.")
    return True


def _state(copy: Copy) -> str:
    if copy.is_pending:
        return "being made" if copy.claimed_by else "waits for a worker"
    if copy.removing_since is not None:
        return "being removed"
    if copy.loss is not None:
        return f"{copy.loss.value.upper()}: {printable(copy.error_message)}"
    if copy.is_completed:
        at = copy.verified_at
        read = f"read back {moment_short(at)}" if at is not None else "not read back"
        encrypted = ", encrypted" if copy.is_encrypted else ""
        return f"{bytes_text(copy.size)}{encrypted}, {read}"
    again = f"; next attempt {moment_short(copy.next_attempt_at)}" if copy.next_attempt_at else ""
    return f"FAILED: {printable(copy.error_message)}{again}"
