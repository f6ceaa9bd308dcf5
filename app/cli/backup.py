"""flask backup: make, list, show, download, annotate and delete backups."""

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import click

from app.cli.groups import Group, ending_by_signals, for_one_database
from app.cli.progress import print_asserted, progress_shown
from app.config import CANCEL_PATIENCE, settings
from app.errors import AppError, Conflict, InvalidInput, VerificationError
from app.formatting import (
    brought_text,
    bytes_text,
    duration_text,
    moment_short,
    printable,
    proof_text,
)
from app.host import own_user
from app.models import DatabaseBackup, Level, Proof, Status, Trigger
from app.schemas import backup_details, backup_row, backups_in_list
from app.services.backups import listing, service, uploads
from app.services.backups.good import is_last_good
from app.services.databases.configured import database_in_use
from app.services.proofs.records import best_proofs, list_proofs
from app.services.recovery import try_to_reconcile
from app.services.restores.by_hand import restore_by_hand

group = Group("backup", help="Make backups of the database, and look after them.")

_BLOCK = 1024 * 1024  # bytes

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@group.command("create")
@click.option("--notes", default="", help="A note to find it by.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only; good for cron.")
@_json
@for_one_database
def create(notes: str, quiet: bool, as_json: bool) -> None:
    """Back up the database now, in this terminal.

    Exits with 0 only if the backup is COMPLETED and its rows are those that were counted.
    """
    with ending_by_signals():
        try_to_reconcile()  # in the terminal nobody else may ever do it
        with database_in_use(), progress_shown(quiet=quiet) as callbacks:
            backup = service.create_backup(trigger=Trigger.CLI, notes=notes, **callbacks)
        if as_json:
            click.echo(_as_json(backup_row(backup)))
        _insist_on_completed(backup)
        _insist_on_its_rows(backup)
    if not as_json and not quiet:
        took = duration_text(backup.duration)
        of = f"of {printable(backup.database)} on {printable(backup.server)}"
        size = bytes_text(backup.size)
        click.echo(f"{backup.filename} {of} ({size}, {took}, read back whole)")
    if quiet and not settings().database_url:
        click.echo("This was the sample: DATABASE_URL is not set.", err=True)


@group.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--notes", default="", help="A note to find it by.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@_json
def import_(file: Path, notes: str, quiet: bool, as_json: bool) -> None:
    """Take in a dump that was made elsewhere with pg_dump -F c.

    It is copied, read whole and marked as foreign: what it brings along is
    shown, and nothing of it is ever restored with a superuser's rights.
    """
    with ending_by_signals():
        try_to_reconcile()
        with progress_shown(quiet=quiet) as callbacks:
            backup = uploads.import_file(
                file, notes=notes, on_progress=callbacks.get("on_progress")
            )
        if as_json:
            click.echo(_as_json(backup_row(backup)))
        _insist_on_completed(backup)
    if not as_json and not quiet:
        found = _differences(backup)
        told = f"not proven: {found[0]}" if found else "read whole"
        click.echo(f"{backup.filename} ({bytes_text(backup.size)}, {told})")
        for line in brought_text(backup.contents):
            click.echo(line)


def _differences(backup: DatabaseBackup) -> list[str]:
    """What spoke against the dump when it was read back."""
    read = (backup.contents or {}).get("read") or {"evidence": {"differences": []}}
    found: list[str] = read["evidence"]["differences"]
    return found


def _insist_on_its_rows(backup: DatabaseBackup) -> None:
    if found := _differences(backup):
        raise AppError(
            f"{backup.filename} was read back, and is not what was counted",
            detail="; ".join(found),
            hint="The dump is kept, with a failed proof. Make another backup.",
        )


def _insist_on_completed(backup: DatabaseBackup) -> None:
    if not backup.is_completed:
        raise AppError(backup.error_message, detail=backup.error_detail, hint=backup.error_hint)


@group.command("list")
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@click.option("--before", help="The nextBefore of the page before.")
@click.option("--status", type=click.Choice([each.value for each in Status]))
@click.option("--search", default="", help="Look for this in names, databases, notes and pins.")
@_json
def list_(limit: int, before: str | None, status: str | None, search: str, as_json: bool) -> None:
    """List backups, newest first."""
    page = listing.list_backups(
        limit=limit,
        before=before,
        status=Status(status) if status else None,
        query=search,
    )
    if as_json:
        rows = backups_in_list(page.backups)
        click.echo(_as_json({"backups": rows, "nextBefore": page.next_before}))
        return
    best = best_proofs(page.backups)
    for backup in page.backups:
        click.echo(_line(backup, best.get(backup.id)))
    if page.next_before:
        click.echo(f"There are more: --before '{page.next_before}'")


@group.command("roles")
@click.argument("name")
def roles(name: str) -> None:
    """Print the server's roles as they were then, as SQL without passwords."""
    click.echo((listing.get_backup(name).contents or {}).get("roles", ""), nl=False)


@group.command("show")
@click.argument("name")
@_json
def show(name: str, as_json: bool) -> None:
    """Show everything known of a backup, and how to restore it by hand."""
    backup = listing.get_backup(name)
    if as_json:
        click.echo(_as_json(backup_details(backup)))
        return
    for key, value in backup_row(backup).items():
        if value not in ("", None) and key not in ("error", "proof"):
            click.echo(f"{key + ':':<15} {value}")
    for proof in list_proofs(backup.id):
        _print_proof(proof)
    for line in brought_text(backup.contents):
        click.echo(line)
    if backup.error_message:
        told = AppError(backup.error_message, detail=backup.error_detail, hint=backup.error_hint)
        click.echo(told.in_words())
    _tell_by_hand(backup)


def _tell_by_hand(backup: DatabaseBackup) -> None:
    by_hand = restore_by_hand(backup)
    if by_hand:
        click.echo(f"\nTo restore it by hand (pg_restore {by_hand.oldest_reader} or newer):")
        if by_hand.warning:
            click.echo(by_hand.warning)
        for command in by_hand.commands:
            click.echo(f"  {command}")


@group.command("download")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; - is stdout.")
def download(name: str, output: Path | None) -> None:
    """Copy a dump to a file, or to standard output."""
    backup, dump = service.open_backup(name)
    target = output or Path(backup.filename)
    with dump:
        if str(target) == "-":
            _copy(dump, sys.stdout.buffer, backup)
        else:
            _copy_to_file(dump, target, backup)
    click.echo(f"{target} ({bytes_text(backup.size)}, SHA-256 {backup.sha256})", err=True)


def _copy_to_file(dump: BinaryIO, target: Path, backup: DatabaseBackup) -> None:
    """Under its name only when it is whole, and never in place of another file."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        try:
            with partial.open("xb") as copy:
                _copy(dump, copy, backup)
            os.link(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink()
    except FileExistsError as error:
        raise InvalidInput(f"{target} is there already", hint="Name another: -o FILE") from error
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written", detail=f"{error.strerror}.") from error


def _copy(dump: BinaryIO, copy: BinaryIO, backup: DatabaseBackup) -> None:
    """Copy, and make sure that what was copied is what was dumped."""
    digest = hashlib.sha256()
    while block := dump.read(_BLOCK):
        digest.update(block)
        copy.write(block)
    if digest.hexdigest() != backup.sha256:
        raise VerificationError(
            f"{backup.filename} is not what it was when it was made",
            detail="Its SHA-256 is not the recorded one.",
            hint="Do not restore it; flask backup check tells which dumps are whole.",
        )


@group.command("notes")
@click.argument("name")
@click.argument("text")
def notes(name: str, text: str) -> None:
    """Give a backup other notes."""
    service.edit_notes(name, text)
    click.echo(f"The notes of {name} have been saved.")


@group.command("delete")
@click.argument("name")
@click.option("yes", "--yes", "--yes-really", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a backup: its dump and its row; one that is pinned must be unpinned first."""
    backup = listing.get_backup(name)
    if not yes:
        question = f"Delete {name} of database {backup.database}?"
        if is_last_good(backup):
            question = f"This is the last good backup of {backup.database}. {question}"
        click.confirm(question, abort=True)
    service.delete_backup(name)
    click.echo(f"{name} has been deleted.")


@group.command("cancel")
@click.argument("name")
def cancel(name: str) -> None:
    """End a backup that waits or runs; it will be FAILED as cancelled."""
    service.cancel_backup(name, by=own_user())
    backup = service.wait_for_backup(listing.get_backup(name).id, CANCEL_PATIENCE)
    if backup.is_completed:
        raise Conflict(f"{name} was completed before it could be cancelled")
    if backup.is_pending:
        raise Conflict(
            f"{name} has not ended yet",
            detail="It was asked to; its runner has not heard it.",
            hint="flask backup show tells when it has; flask doctor, whether a worker is silent.",
        )
    click.echo(f"{name} has been cancelled.")


def _line(backup: DatabaseBackup, proof: Proof | None) -> str:
    state = backup.status.value
    if backup.is_completed and not listing.has_file(backup):
        state = "MISSING"
    size = bytes_text(backup.size) if backup.is_completed else "–"
    first_line = backup.notes.partition("\n")[0]
    if backup.is_pinned:
        first_line = f"[pinned: {backup.pin_reason}] {first_line}".rstrip()
    when = moment_short(backup.created_at)
    proven = f"{_proof_words(proof)} {proof.proved_at:%Y-%m-%d}" if proof else "–"
    return (
        f"{backup.filename}  {state:<9}  {size:>10}  {when}  {proven:<24}"
        f"  {backup.database}  {first_line}"
    )


def _print_proof(proof: Proof) -> None:
    click.echo(f"{'proof:':<15} {_proof_words(proof)} ({moment_short(proof.proved_at)} UTC)")
    if proof.level == Level.ASSERTED:
        print_asserted(proof.evidence)
        return
    for each in proof.evidence.get("differences", []):
        click.echo(f"  {each}")


def _proof_words(proof: Proof) -> str:
    return proof.word.upper() if proof.is_failed else proof_text(proof)


def _as_json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)
