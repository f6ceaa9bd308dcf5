"""flask backup: create, list, show, download, annotate and delete backups."""

from pathlib import Path

import click

from app.cli.completion import backup_names, database_names
from app.cli.groups import (
    Group,
    ending_by_signals,
    examples,
    for_one_database,
    json_option,
    json_text,
)
from app.cli.progress import print_asserted, progress_shown
from app.cli.tables import print_table
from app.config import CANCEL_PATIENCE
from app.describing import brought_text, proof_text
from app.errors import AppError, Conflict
from app.formatting import bytes_text, duration_text, moment_short, printable
from app.host import own_user
from app.models import Database, DatabaseBackup, Level, Proof, Trigger
from app.schemas.jobs import backup_details, backup_row, backups_in_list
from app.services.backups import listing, service, uploads
from app.services.backups.filters import CHOICES, read_filters
from app.services.backups.good import is_last_good
from app.services.databases.connections import is_sample, sample_in_use
from app.services.proofs.records import best_proofs, list_proofs
from app.services.recovery import try_to_reconcile
from app.services.restores.by_hand import restore_by_hand

group = Group("backup", help="Create and manage backups of the database.")


@group.command(
    "create",
    epilog=examples(
        "flask backup create --notes 'before the upgrade'",
        "flask backup create --quiet --database crm",
    ),
)
@click.option("--notes", default="", help="A note to find it by.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only; good for cron.")
@json_option
@for_one_database
def create(notes: str, quiet: bool, as_json: bool, database: Database) -> None:
    """Back up a database now, in this terminal.

    Exits with 0 only if the backup is COMPLETED and has the rows that were counted.
    """
    with ending_by_signals():
        try_to_reconcile()  # perhaps no worker ever does
        with sample_in_use(), progress_shown(quiet=quiet) as callbacks:
            backup = service.create_backup(database, trigger=Trigger.CLI, notes=notes, **callbacks)
        if as_json:
            click.echo(json_text(backup_row(backup)))
        _insist_on_completed(backup)
        _insist_on_its_rows(backup)
    if not as_json and not quiet:
        took = duration_text(backup.duration)
        of = f"of {printable(backup.database)} on {printable(backup.server)}"
        size = bytes_text(backup.size)
        click.echo(f"{backup.filename} {of} ({size}, {took}, read back whole)")
    if quiet and is_sample(database):
        click.echo("This was the sample: DATABASE_URL is not set.", err=True)


@group.command(
    "import", epilog=examples("flask backup import theirs.dump --notes 'of the old server'")
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--notes", default="", help="A note to find it by.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@json_option
def import_(file: Path, notes: str, quiet: bool, as_json: bool) -> None:
    """Import a dump that was made elsewhere with pg_dump -F c.

    It is copied, read back completely and marked as foreign: its code is listed, and no
    part of it is ever restored with superuser rights.
    """
    with ending_by_signals():
        try_to_reconcile()
        with progress_shown(quiet=quiet) as callbacks:
            backup = uploads.import_file(
                file, notes=notes, on_progress=callbacks.get("on_progress")
            )
        if as_json:
            click.echo(json_text(backup_row(backup)))
        _insist_on_completed(backup)
    if not as_json and not quiet:
        differences = _differences(backup)
        verdict = f"not proven: {differences[0]}" if differences else "read whole"
        click.echo(f"{backup.filename} ({bytes_text(backup.size)}, {verdict})")
        for line in brought_text(backup.contents):
            click.echo(line)


def _differences(backup: DatabaseBackup) -> list[str]:
    """What was wrong with the dump when it was read back."""
    read = (backup.contents or {}).get("read") or {"evidence": {"differences": []}}
    differences: list[str] = read["evidence"]["differences"]
    return differences


def _insist_on_its_rows(backup: DatabaseBackup) -> None:
    if differences := _differences(backup):
        raise AppError(
            f"{backup.filename} was read back, and differs from what was counted",
            detail="; ".join(differences),
            hint="The dump is kept, with a failed proof. Make another backup.",
        )


def _insist_on_completed(backup: DatabaseBackup) -> None:
    if not backup.is_completed:
        raise AppError(backup.error_message, detail=backup.error_detail, hint=backup.error_hint)


@group.command(
    "list",
    epilog=examples(
        "flask backup list --database crm --proof restored", "flask backup list --json --limit 1"
    ),
)
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@click.option("--before", help="The nextBefore of the previous page.")
@click.option("--search", "q", default="", help="Search in names, databases, notes and pins.")
@click.option(
    "--database",
    metavar="NAME",
    shell_complete=database_names,
    help="Only backups of this database.",
)
@click.option("--status", type=click.Choice(CHOICES["status"]))
@click.option("--proof", type=click.Choice(CHOICES["proof"]), help="How far it is proven.")
@click.option("--trigger", type=click.Choice(CHOICES["trigger"]), help="What started it.")
@click.option("--pinned", is_flag=True, flag_value="yes", help="Only pinned ones.")
@click.option(
    "--missing-copy", "copy", is_flag=True, flag_value="missing", help="Only with no good copy."
)
@click.option("--from", "since", default="", help="2026-11-23 or 2026-11-23T13:30Z.")
@click.option("--to", "until", default="", help="The same; a day is included.")
@click.option("--sort", type=click.Choice(CHOICES["sort"]), default="newest", show_default=True)
@json_option
def list_(limit: int, before: str | None, as_json: bool, **asked: str | None) -> None:
    """List backups, newest first."""
    asked |= {"from": asked.pop("since"), "to": asked.pop("until")}
    filters, order = read_filters(asked)
    page = listing.list_backups(filters, limit=limit, before=before, order=order)
    if as_json:
        rows = backups_in_list(page.backups)
        click.echo(json_text({"backups": rows, "nextBefore": page.next_before}))
        return
    best = best_proofs(page.backups)
    print_table(
        ("Backup", "Status", "Size", "Created", "Proof", "Database", "Notes"),
        [_cells(backup, best.get(backup.id)) for backup in page.backups],
        nothing="There are no such backups.",
    )
    if page.next_before:
        click.echo(f"There are more: --before '{page.next_before}'")


@group.command("roles")
@click.argument("name", shell_complete=backup_names)
def roles(name: str) -> None:
    """Print the roles of the server at the time, as SQL without passwords."""
    click.echo((listing.get_backup(name).contents or {}).get("roles", ""), nl=False)


@group.command("show", epilog=examples("flask backup show backup_2026-11-23T13-51-57-344Z.dump"))
@click.argument("name", shell_complete=backup_names)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show all about a backup, and how to restore it by hand."""
    backup = listing.get_backup(name)
    if as_json:
        click.echo(json_text(backup_details(backup)))
        return
    for key, value in backup_row(backup).items():
        if value not in ("", None) and key not in ("error", "proof"):
            click.echo(f"{key + ':':<15} {value}")
    for proof in list_proofs(backup.id):
        _print_proof(proof)
    for line in brought_text(backup.contents):
        click.echo(line)
    if backup.error_message:
        failure = AppError(backup.error_message, detail=backup.error_detail, hint=backup.error_hint)
        click.echo(failure.in_words())
    _print_by_hand(backup)


def _print_by_hand(backup: DatabaseBackup) -> None:
    by_hand = restore_by_hand(backup)
    if by_hand:
        click.echo(f"\nTo restore it by hand (pg_restore {by_hand.oldest_reader} or newer):")
        if by_hand.warning:
            click.echo(by_hand.warning)
        for command in by_hand.commands:
            click.echo(f"  {command}")


@group.command("notes")
@click.argument("name", shell_complete=backup_names)
@click.argument("text")
def notes(name: str, text: str) -> None:
    """Change the notes of a backup."""
    service.edit_notes(name, text)
    click.echo(f"The notes of {name} have been saved.")


@group.command(
    "delete", epilog=examples("flask backup delete backup_2026-11-23T13-51-57-344Z.dump --yes")
)
@click.argument("name", shell_complete=backup_names)
@click.option("yes", "--yes", "--yes-really", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a backup with its dump; a pinned one must be unpinned first."""
    backup = listing.get_backup(name)
    if not yes:
        question = f"Delete {name} of database {backup.database}?"
        if is_last_good(backup):
            question = f"This is the last good backup of {backup.database}. {question}"
        click.confirm(question, abort=True)
    service.delete_backup(name)
    click.echo(f"{name} has been deleted.")


@group.command("cancel")
@click.argument("name", shell_complete=backup_names)
def cancel(name: str) -> None:
    """Cancel a pending backup, which becomes FAILED."""
    service.cancel_backup(name, by=own_user())
    backup = service.wait_for_backup(listing.get_backup(name).id, CANCEL_PATIENCE)
    if backup.is_completed:
        raise Conflict(f"{name} was completed before it could be cancelled")
    if backup.is_pending:
        raise Conflict(
            f"{name} has not ended yet",
            detail="It was cancelled, but its runner has not noticed yet.",
            hint="flask backup show shows when it has; flask doctor finds a silent worker.",
        )
    click.echo(f"{name} has been cancelled.")


def _cells(backup: DatabaseBackup, proof: Proof | None) -> tuple[str, ...]:
    state = backup.status.value
    if backup.is_completed and not listing.has_file(backup):
        state = "MISSING"
    size = bytes_text(backup.size) if backup.is_completed else "–"
    first_line = backup.notes.partition("\n")[0]
    if backup.is_partial:
        first_line = f"[partial] {first_line}".rstrip()
    if backup.is_pinned:
        first_line = f"[pinned: {backup.pin_reason}] {first_line}".rstrip()
    proven = f"{_proof_words(proof)} {proof.proved_at:%Y-%m-%d}" if proof else "–"
    when = moment_short(backup.created_at)
    return backup.filename, state, size, when, proven, backup.database, first_line


def _print_proof(proof: Proof) -> None:
    click.echo(f"{'proof:':<15} {_proof_words(proof)} ({moment_short(proof.proved_at)} UTC)")
    if proof.level == Level.ASSERTED:
        print_asserted(proof.evidence)
        return
    for difference in proof.evidence.get("differences", []):
        click.echo(f"  {difference}")


def _proof_words(proof: Proof) -> str:
    return proof.word.upper() if proof.is_failed else proof_text(proof)
