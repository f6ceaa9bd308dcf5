"""flask recover: a lost panel back from one of its stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from app.cli.credentials import credentials_option, read_credentials
from app.cli.groups import (
    CatalogueCommand,
    ending_by_signals,
    examples,
    identity_option,
    read_identities,
    say_beside,
)
from app.cli.progress import bytes_shown
from app.cli.restore import restore_
from app.encryption import Identity
from app.errors import AppError, Conflict, InvalidInput, NotFound, ObjectMissing, VerificationError
from app.formatting import bytes_text, copies_text, printable
from app.host import own_user
from app.services.access.admins import list_admins
from app.services.backups.listing import get_backup, has_dump
from app.services.copies.fetch import fetch_copy
from app.services.copies.service import find_copy
from app.services.rescue import catalogue
from app.services.rescue.history import Source, adopt_store, open_source, rebuild_history
from app.services.rescue.inventory import Inventory, take_inventory
from app.services.stores.ownership import find_owner
from app.stores import Store

_SAY_EVERY = 1000  # marks

_UNUSABLE = (VerificationError, ObjectMissing)


@dataclass(frozen=True)
class _Wishes:
    """What is to be done."""

    catalogue: bool | None  # None: if it is signed
    restore: bool
    database: str
    yes: bool


@click.command(
    "recover",
    cls=CatalogueCommand,
    epilog=examples(
        "flask recover --from s3://bucket/prefix --identity recovery-key.txt --restore"
    ),
)
@click.option("--from", "url", required=True, metavar="URL", help="The store of the lost panel.")
@credentials_option
@identity_option
@click.option("--name", default="recovered", show_default=True, help="The store's name here.")
@click.option(
    "--catalogue/--no-catalogue",
    default=None,
    help="Restore the panel's own catalogue, signed or not; or only list the copies.",
)
@click.option("--restore", is_flag=True, help="Fetch and restore the newest good copy, too.")
@click.option("--database", default="", metavar="NAME", help="With --restore: of this database.")
@click.option("--yes", is_flag=True, help="Do not ask; takes the store over, too.")
@click.pass_context
def recover(
    context: click.Context,
    /,
    url: str,
    name: str,
    credentials_from: Path | None,
    identity_files: tuple[Path, ...],
    **wishes: bool,
) -> None:
    """Recover a lost panel from one of its stores, in a fresh checkout.

    It shows what lies there, and asks. The panel's own catalogue comes back first: admins,
    schedules, audit, history; only into a panel that has nothing of its own. Then all copies in
    the store are listed here, and can be fetched and restored.

    Start with the lost panel's SECRET_KEY, if you have it: manifests and catalogue are signed
    with it, and other secrets encrypted.
    """
    wanted = _Wishes(**wishes)  # type: ignore[arg-type]  # click gives each its type
    source = Source(url, name, read_credentials(credentials_from))
    identities = read_identities(identity_files)
    store = open_source(source)
    with ending_by_signals(), take_inventory(store, identities, _Counter().count) as inventory:
        exports = catalogue.find_exports(store)
        _show(store, inventory, exports)
        chosen = _database(inventory, wanted)
        if exports and wanted.catalogue is not False:
            _recover_catalogue(store, exports, identities, wanted)
        found = _adopt(source, store, inventory, identities, wanted)
        newest = [copy.filename for copy in inventory.newest(chosen)]
        _tell_about_trust(inventory)
        if not list_admins():
            click.echo("There is no admin yet: flask admin create NAME.")
        if wanted.restore:
            filename = _fetch_newest(newest, found, identities)
            context.invoke(restore_, name=filename, yes=wanted.yes)
        elif newest:
            _tell_next(newest[0], inventory)


class _Counter:
    """Says now and then how many marks were read."""

    def __init__(self) -> None:
        self._marks = 0

    def count(self, marks: int) -> None:
        self._marks += marks
        if self._marks % _SAY_EVERY == 0:
            say_beside(f"{self._marks} marks have been read.")


def _show(store: Store, inventory: Inventory, exports: Sequence[str]) -> None:
    """Show what lies in the store. Raises NotFound where nothing does."""
    click.echo(
        f"{store.address} has {copies_text(inventory.copies)}, {bytes_text(inventory.size)},"
        f" {inventory.encrypted} of them encrypted, and {len(exports)} exports of a catalogue."
    )
    for (server, database), number in sorted(inventory.databases.items()):
        what = f"{database} on {server}" if server else "contents not known"
        click.echo(f"  {printable(what)}: {number}")
    if inventory.bad:
        click.echo(f"{inventory.bad} more marks cannot be used:")
    for line in inventory.bad_named:
        click.echo(f"  {printable(line)}")
    if not (inventory.copies or exports):
        raise NotFound(
            "no copy of a backup lies in the store",
            hint="Check its URL, with its prefix: flask store test --url URL.",
        )


def _database(inventory: Inventory, wanted: _Wishes) -> str:
    """The name of the database to restore. Raises InvalidInput if it must be named."""
    names = sorted({database for _, database in inventory.databases})
    if wanted.database and wanted.database not in names:
        raise InvalidInput(
            f"the store has no copy of {wanted.database[:63]!r}", hint=_listed(names)
        )
    if wanted.restore and not wanted.database and len(names) > 1:
        raise InvalidInput("which database? Name it: --database NAME", hint=_listed(names))
    return wanted.database


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:20] if name)
    return f"The store has copies of {shown or 'databases that only an identity reveals'}."


def _recover_catalogue(
    store: Store, exports: Sequence[str], identities: Sequence[Identity], wanted: _Wishes
) -> None:
    """Restore the newest good export, if that is possible and wished."""
    if catalogue.has_own_rows():
        if wanted.catalogue:
            raise Conflict(
                "the catalogue has rows of its own",
                hint="Stop the panel, move the file of its catalogue away or name an empty"
                " database, and try again.",
            )
        click.echo("This panel has rows of its own, so its catalogue stays as it is.")
        return
    for filename in exports:
        try:
            export = catalogue.read_export(store, filename, identities)
            if not _is_confirmed(export, wanted):
                return
            back = catalogue.restore_catalogue(store, export, identities, say_beside)
        except _UNUSABLE as error:
            click.echo(f"The export {filename} cannot be used: {printable(str(error))}.", err=True)
            continue
        click.echo(
            f"The catalogue of {export.moment} is back: {back.admins} admins,"
            f" {back.schedules} schedules, {back.audit_entries} entries of the audit."
        )
        if not export.is_signed:
            click.echo("Enter all secrets again: URLs of databases, credentials, notifiers.")
        return
    raise AppError("no export of the catalogue can be used", hint="Go without: --no-catalogue.")


def _is_confirmed(export: catalogue.Export, wanted: _Wishes) -> bool:
    """Raises Conflict where nobody can be asked."""
    if not export.is_signed:
        click.echo(
            "The exported catalogue is not signed with the SECRET_KEY of this panel: whoever could"
            " write to the store could have put admins of their own into it."
        )
        if wanted.yes and not wanted.catalogue:
            raise Conflict(
                "the exported catalogue is not signed with this SECRET_KEY",
                hint="Set the SECRET_KEY of the lost panel; or decide: --catalogue restores it all"
                " the same, --no-catalogue lists the copies alone.",
            )
    return wanted.yes or click.confirm(f"Restore the catalogue of {export.moment}?")


def _adopt(
    source: Source,
    store: Store,
    inventory: Inventory,
    identities: Sequence[Identity],
    wanted: _Wishes,
) -> str:
    """Make the store one of ours, and list its copies; returns its name."""
    owner = find_owner(store)
    is_others = owner is not None and not owner.is_us
    if owner is not None and is_others:
        click.echo(f"The store belongs to the panel {owner.panel} on {owner.host}.")
        click.echo("That panel must be gone: two panels never share a store.")
    if not wanted.yes:
        over = "Take the store over" if is_others else "Add the store"
        click.confirm(f"{over}, and list its {copies_text(inventory.copies)} here?", abort=True)
    adopted = adopt_store(
        source,
        identities,
        is_encrypted=bool(inventory.encrypted),
        take_over=is_others,
        by=own_user(),
    )
    made = rebuild_history(adopted.name, inventory, by=own_user())
    click.echo(f"The store is here as {adopted.name}; new copies: {made}: flask copy list")
    if adopted.is_paused:
        click.echo(
            f"It is paused, since its copies are encrypted, and new ones would not be:"
            f" flask store edit {adopted.name} --recipient KEY; flask store resume {adopted.name}"
        )
    return adopted.name


def _tell_about_trust(inventory: Inventory) -> None:
    if inventory.unsigned:
        click.echo(
            f"{inventory.unsigned} copies are not signed with the SECRET_KEY of this panel. They"
            " become foreign backups: nothing of them is restored with a superuser's rights."
            " Start with the lost panel's SECRET_KEY, or trust each one that you know:"
            " flask backup trust NAME"
        )


def _tell_next(filename: str, inventory: Inventory) -> None:
    identity = " --identity FILE" if inventory.encrypted else ""
    click.echo("Next, bring back the newest one, and restore it:")
    click.echo(f"  flask copy fetch {filename}{identity}")
    click.echo(f"  flask backup restore {filename}")


def _fetch_newest(names: Sequence[str], store: str, identities: Sequence[Identity]) -> str:
    """Fetch the newest copy that is good; returns its name. Raises NotFound."""
    for filename in names:
        if has_dump(filename):
            return get_backup(filename).filename
        copy = find_copy(filename, store)
        try:
            with bytes_shown(filename, total=copy.size, quiet=False) as on_block:
                fetch_copy(copy.id, by=own_user(), identities=identities, on_block=on_block)
        except _UNUSABLE as error:
            click.echo(f"{filename} cannot be used: {printable(str(error))}.", err=True)
            continue
        click.echo(f"{filename} is here.")
        return filename
    raise NotFound("no copy that can be restored lies in the store")
