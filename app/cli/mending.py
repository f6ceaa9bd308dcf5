"""flask backup check, rebuild, reconcile, trust: make dumps, manifests and catalogue agree."""

import click

from app.cli.completion import backup_names
from app.cli.groups import CatalogueCommand, TellingCommand, say_beside
from app.errors import AppError
from app.host import own_user
from app.services.access.admins import list_admins
from app.services.backups import checks
from app.services.backups.checks import Verdict, check_backups
from app.services.backups.recovery import adopt
from app.services.backups.trust import trust_backup
from app.services.catalogue.state import prepare_catalogue, set_aside_if_damaged
from app.services.recovery import reconcile
from app.services.schedules.listing import find_next_backup

_REPAIRED = {
    Verdict.UNKNOWN: "; it has a row again, if it has a manifest",
    Verdict.CATALOGUE: "; the row has been rebuilt",
    Verdict.MANIFEST: "; the manifest has been rebuilt",
}

_LOST = (
    "No backup is scheduled in this catalogue. Some data was only in the old one, and is lost:"
    " schedules, the retention policy, notifiers, assertions, admins, drill results and the audit."
    " Set them up again: flask settings import FILE, or flask schedule create."
)


@click.command("check", cls=CatalogueCommand)
def check() -> None:
    """Compare every dump with its manifest, and both with the catalogue."""
    bad = 0
    for result in check_backups():
        click.echo(f"{result.filename}\t{result.in_words}")
        bad += not result.is_good
    if bad:
        raise AppError(
            f"{bad} of the dumps, manifests or rows were changed",
            hint="Check their disk; flask backup rebuild repairs manifests and rows.",
        )


@click.command("rebuild", cls=TellingCommand)
def rebuild() -> None:
    """Rebuild a lost or damaged catalogue from the manifests beside the dumps.

    Stop worker and web first. A damaged SQLite catalogue is renamed and kept. Rows that
    differ from a manifest that fits its dump are rebuilt, and so are manifests where dump
    and row agree. No dump is changed.

    Schedules, retention, notifiers, assertions, admins and the audit are only in the
    catalogue, and are lost.
    """
    aside = set_aside_if_damaged()
    if aside is not None:
        click.echo(f"The damaged catalogue is now {aside}")
    prepare_catalogue(say_beside)
    unproven = 0
    for result in checks.rebuild():
        click.echo(f"{result.filename}\t{result.in_words}{_REPAIRED.get(result.verdict, '')}")
        unproven += result.verdict in (Verdict.CHANGED, Verdict.NOT_READABLE)
    reconcile()
    if not list_admins():
        click.echo("There is no admin in this catalogue: create one with flask admin create NAME.")
    if find_next_backup() is None:
        click.echo(_LOST)
    if unproven:
        raise AppError(
            f"{unproven} of the dumps were changed, and are left as they are",
            hint="Check their disk.",
        )


@click.command("reconcile", cls=CatalogueCommand)
@click.option("--adopt", "wants_adoption", is_flag=True, help="Give dumps without a row a new one.")
@click.option("--trust", is_flag=True, help="With --adopt: also trust those without a signature.")
def reconcile_(wants_adoption: bool, trust: bool) -> None:
    """Make catalogue and files agree after something was killed."""
    report = reconcile()
    done = {
        "completed": report.completed,
        "failed as interrupted": report.failed,
        "program of its dead runner ended": report.ended,
        "deleted": report.deleted,
        "leftover removed": report.removed,
    }
    for what, names in done.items():
        for name in names:
            click.echo(f"{name}\t{what}")
    refused = 0
    for name in report.unknown:
        outcome = _adopted(name, trust) if wants_adoption else "not in the catalogue (--adopt)"
        refused += wants_adoption and not outcome.startswith("adopted")
        click.echo(f"{name}\t{outcome}")
    if refused:
        raise AppError(
            f"{refused} of the dumps could not be adopted",
            hint="They may still be whole; pg_restore reads them without the panel.",
        )


def _adopted(name: str, trust: bool) -> str:
    try:
        is_ours = adopt(name)
        if not is_ours and trust:
            trust_backup(name, by=own_user())
    except AppError as error:
        return str(error)
    return "adopted" if is_ours or trust else "adopted as foreign: not signed by this panel"


@click.command("trust", cls=CatalogueCommand)
@click.argument("name", shell_complete=backup_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
def trust_(name: str, yes: bool) -> None:
    """Trust a backup whose manifest was not signed by this panel.

    Otherwise it is foreign: no part of it is restored with superuser rights. Trust it only
    if you know where it comes from.
    """
    if not yes:
        click.confirm(f"Was {name} made by you, and kept where nobody else writes?", abort=True)
    trust_backup(name, by=own_user())
    click.echo(f"{name} is trusted: it is no longer foreign.")
