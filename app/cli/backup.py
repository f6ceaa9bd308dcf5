"""flask backup: make, list, show, download, annotate, delete and check backups."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.markup import escape

from app.cli.groups import Group, unwind_on_signals
from app.errors import AppError, InvalidInput, VerificationError
from app.formatting import bytes_text, duration_text, moment_short
from app.models import BackupStatus, DatabaseBackup, Trigger
from app.schemas import backup_details, backup_in_list, backup_row
from app.services import backups as service
from app.services.checks import check_backups
from app.services.databases import database_in_use
from app.services.reconcile import adopt, reconcile
from app.services.restoring import restore_by_hand

group = Group("backup", help="Make backups of the database, and look after them.")

_BLOCK = 1024 * 1024  # bytes

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@group.command("create")
@click.option("--notes", default="", help="A note to find it by.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only; good for cron.")
@_json
def create(notes: str, quiet: bool, as_json: bool) -> None:
    """Back up the database now, in this terminal.

    Exits with 0 only if the backup is COMPLETED.
    """
    unwind_on_signals()
    with database_in_use(), _progress(quiet=quiet) as on_line:
        backup = service.create_backup(trigger=Trigger.CLI, notes=notes, on_line=on_line)
    if as_json:
        click.echo(_as_json(backup_row(backup)))
    if not backup.is_completed:
        raise AppError(backup.error_message, detail=backup.error_detail, hint=backup.error_hint)
    if not as_json and not quiet:
        took = duration_text(backup.duration)
        click.echo(f"{backup.filename} ({bytes_text(backup.size)}, {took}, read back whole)")


@group.command("list")
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@click.option("--before", help="The nextBefore of the page before.")
@click.option("--status", type=click.Choice([each.value for each in BackupStatus]))
@click.option("--search", default="", help="Look for this in names, databases and notes.")
@_json
def list_(limit: int, before: str | None, status: str | None, search: str, as_json: bool) -> None:
    """List backups, newest first."""
    page = service.list_backups(
        limit=limit,
        before=before,
        status=BackupStatus(status) if status else None,
        query=search,
    )
    if as_json:
        rows = [backup_in_list(each) for each in page.backups]
        click.echo(_as_json({"backups": rows, "nextBefore": page.next_before}))
        return
    for backup in page.backups:
        click.echo(_line(backup))
    if page.next_before:
        click.echo(f"There are more: --before '{page.next_before}'")


@group.command("show")
@click.argument("name")
@_json
def show(name: str, as_json: bool) -> None:
    """Show everything known of a backup, and how to restore it by hand."""
    backup = service.get_backup(name)
    if as_json:
        click.echo(_as_json(backup_details(backup)))
        return
    for key, value in backup_row(backup).items():
        if value not in ("", None) and key != "error":
            click.echo(f"{key + ':':<15} {value}")
    if backup.error_message:
        told = AppError(backup.error_message, detail=backup.error_detail, hint=backup.error_hint)
        click.echo(told.in_words())
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
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a backup: its dump and its row."""
    backup = service.get_backup(name)
    if not yes:
        click.confirm(f"Delete {name} of database {backup.database}?", abort=True)
    service.delete_backup(name)
    click.echo(f"{name} has been deleted.")


@group.command("check")
def check() -> None:
    """Compare every dump with its recorded checksum."""
    bad = 0
    for result in check_backups():
        click.echo(f"{result.filename}\t{result.finding}")
        bad += not result.is_good
    if bad:
        raise AppError(
            f"{bad} of the dumps or manifests are not what they were",
            hint="Look at the disk they are on; saving the notes writes a manifest anew.",
        )


@group.command("reconcile")
@click.option("--adopt", "wants_adoption", is_flag=True, help="Give dumps without a row a new one.")
def reconcile_(wants_adoption: bool) -> None:
    """Bring catalogue and files in line after something was killed."""
    report = reconcile()
    done = {
        "completed": report.completed,
        "failed as interrupted": report.failed,
        "deleted": report.deleted,
        "leftover removed": report.removed,
    }
    for what, names in done.items():
        for name in names:
            click.echo(f"{name}\t{what}")
    for name in report.unknown:
        if wants_adoption:
            adopt(name)
        click.echo(f"{name}\t{'adopted' if wants_adoption else 'not in the catalogue (--adopt)'}")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """What becomes of pg_dump's lines: one that changes on a terminal, else plain ones."""
    console = Console(stderr=True, quiet=quiet, highlight=False)

    def plain(line: str) -> None:
        if "dumping contents of" in line and not quiet:
            with suppress(OSError):  # nobody may be listening any more; the dump goes on
                click.echo(_told(line), err=True)

    if not console.is_terminal:
        yield plain
        return
    with console.status("Backing up …") as status:
        yield lambda line: status.update(escape(_told(line)))


def _told(line: str) -> str:
    return line.removeprefix("pg_dump: ")[:100]


def _line(backup: DatabaseBackup) -> str:
    state = backup.status.value
    if backup.is_completed and not service.has_file(backup):
        state = "MISSING"
    size = bytes_text(backup.size) if backup.is_completed else "–"
    first_line = backup.notes.partition("\n")[0]
    when = moment_short(backup.created_at)
    return f"{backup.filename}  {state:<9}  {size:>10}  {when}  {backup.database}  {first_line}"


def _as_json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)
