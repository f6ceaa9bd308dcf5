"""flask backup check, rebuild, reconcile, trust: dumps, manifests and catalogue made to agree."""

import click

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

_MENDED = {
    Verdict.UNKNOWN: "; it has a row again, if it has a manifest",
    Verdict.CATALOGUE: "; the row has been made anew",
    Verdict.MANIFEST: "; the manifest has been made anew",
}

_NOT_BROUGHT_BACK = (
    "No backup is scheduled in this catalogue. What only the old one knew is not brought back:"
    " schedules, the retention policy, notifiers, assertions, admins, drill results and the audit."
    " Set them up anew: flask settings import FILE, or flask schedule create."
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
            f"{bad} of the dumps, manifests or rows are not what they were",
            hint="Look at the disk they are on; flask backup rebuild mends manifests and rows.",
        )


@click.command("rebuild", cls=TellingCommand)
def rebuild() -> None:
    """Make a lost or damaged catalogue anew from the manifests beside the dumps.

    Stop worker and web first. A SQLite catalogue that is damaged is set aside,
    and kept. Rows that disagree with a manifest which its dump proves are made
    anew; so are manifests, where dump and row agree. No dump is touched.

    Schedules, retention, notifiers, assertions, admins and the audit are in the
    catalogue alone: they do not come back.
    """
    aside = set_aside_if_damaged()
    if aside is not None:
        click.echo(f"The damaged catalogue is now {aside}")
    prepare_catalogue(say_beside)
    unproven = 0
    for result in checks.rebuild():
        click.echo(f"{result.filename}\t{result.in_words}{_MENDED.get(result.verdict, '')}")
        unproven += result.verdict in (Verdict.CHANGED, Verdict.NOT_READABLE)
    reconcile()
    if not list_admins():
        click.echo("There is no admin in this catalogue: make one with flask admin create NAME.")
    if find_next_backup() is None:
        click.echo(_NOT_BROUGHT_BACK)
    if unproven:
        raise AppError(
            f"{unproven} of the dumps are not what they were, and were left alone",
            hint="Look at the disk they are on.",
        )


@click.command("reconcile", cls=CatalogueCommand)
@click.option("--adopt", "wants_adoption", is_flag=True, help="Give dumps without a row a new one.")
@click.option(
    "--trust", is_flag=True, help="With --adopt: also those whose manifest is not signed are ours."
)
def reconcile_(wants_adoption: bool, trust: bool) -> None:
    """Bring catalogue and files in line after something was killed."""
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
            hint="They may be whole all the same; pg_restore reads them without the panel.",
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
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def trust_(name: str, yes: bool) -> None:
    """Say that a backup whose manifest this panel has not signed is one of yours.

    Such a backup is foreign: nothing of it is restored with a superuser's
    rights. Trust it only if you know where it comes from.
    """
    if not yes:
        click.confirm(f"Was {name} made by you, and kept where nobody else writes?", abort=True)
    trust_backup(name, by=own_user())
    click.echo(f"{name} is trusted: it is no longer foreign.")
