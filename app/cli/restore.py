"""flask backup drill and restore, and flask restore, which manages both."""

from typing import Any

import click

from app.cli.completion import backup_names, database_names, restore_ids
from app.cli.groups import (
    CatalogueCommand,
    Group,
    ending_by_signals,
    examples,
    for_one_database,
    json_option,
    json_text,
)
from app.cli.progress import progress_shown
from app.cli.restore_report import outcome, print_done, print_preview, print_remarks
from app.cli.tables import print_table
from app.config import CANCEL_PATIENCE
from app.describing import outcome_text
from app.errors import AppError, Conflict
from app.formatting import moment_short
from app.host import own_user
from app.models import Database, Kind, Restore, Trigger
from app.schemas.jobs import restore_details, restore_row
from app.services.backups.good import get_newest_good
from app.services.databases.connections import sample_in_use
from app.services.proofs.records import proof_of
from app.services.recovery import try_to_reconcile
from app.services.restores import service
from app.services.restores.request import RestoreRequest, refuse_unconfirmed
from app.services.restores.source import get_source
from app.services.restores.tables import choose_tables

group = Group(
    "restore", help="Manage drills and restores; flask backup drill and restore start them."
)


_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


@click.command(
    "drill",
    cls=CatalogueCommand,
    epilog=examples(
        "flask backup drill --latest --quiet",
        "flask backup drill backup_2026-11-23T13-51-57-344Z.dump",
    ),
)
@click.argument("name", shell_complete=backup_names, required=False)
@click.option("--latest", is_flag=True, help="Drill the newest good backup.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only; good for cron.")
@for_one_database
def drill(name: str | None, latest: bool, quiet: bool, database: Database) -> None:
    """Prove a backup: restore it into a scratch database, compare, and drop that database.

    Exits with 0 only if the backup was restored without a difference.
    """
    if latest == bool(name):
        raise click.UsageError("Name a backup, or use --latest.")
    with sample_in_use():
        source = get_source(name or get_newest_good(database).filename)
        drill = _run(RestoreRequest(source, Kind.DRILL, Trigger.CLI), quiet=quiet)
    if not quiet:
        click.echo(f"Restored {drill.filename} in {outcome(drill)}.")
        print_remarks(drill.result)


@click.command(
    "restore",
    cls=CatalogueCommand,
    epilog=examples(
        "flask backup restore backup_2026-11-23T13-51-57-344Z.dump --into shop_yesterday",
        "flask backup restore backup_2026-11-23T13-51-57-344Z.dump --replace",
    ),
)
@click.argument("name", shell_complete=backup_names)
@click.option(
    "--into",
    default="",
    metavar="NEW",
    help="Name of the new database; the default has the time of the backup.",
)
@click.option(
    "--tables",
    "wanted",
    multiple=True,
    metavar="SCHEMA.TABLE",
    help="Restore only this table, into a new database; schema.* for all of a schema. Repeatable.",
)
@click.option("--replace", is_flag=True, help="Replace the live database, which is kept.")
@click.option(
    "--in-place",
    is_flag=True,
    help="Load it over the live database, where no other can be created.",
)
@click.option(
    "--as-superuser",
    is_flag=True,
    help="Let code in the dump run with a superuser's rights.",
)
@click.option(
    "--to",
    default="",
    metavar="DATABASE",
    shell_complete=database_names,
    help="To the server of this database, or in its place; default: its own.",
)
@_yes
def restore_(name: str, *, yes: bool, replace: bool, in_place: bool, **chosen: Any) -> None:
    """Restore a backup into a new database, or in place of the live one.

    It first shows what will happen, and refuses what is known not to work. A replace backs
    up the live database, keeps it under another name, and can be undone: flask restore
    undo. In place backs it up too, and is all or nothing; but objects created since the
    backup stay, and there is no undo. flask backup contents lists the tables for --tables.
    """
    if replace and in_place:
        raise click.UsageError("Choose one of --replace and --in-place.")
    kind = Kind.REPLACE if replace else Kind.IN_PLACE if in_place else Kind.BESIDE
    source = get_source(name, chosen["to"])
    request = RestoreRequest(
        source,
        kind,
        Trigger.CLI,
        into=chosen["into"],
        tables=choose_tables(source, chosen["wanted"]),
        as_superuser=chosen["as_superuser"],
    )
    with sample_in_use():
        print_preview(request, service.preview_restore(source, kind, request.into, request.tables))
        if kind is not Kind.BESIDE and not yes:
            typed = click.prompt("Type the name of the database to replace it", err=True)
            refuse_unconfirmed(source, typed)
        print_done(_run(request))


@group.command("list", epilog=examples("flask restore list --limit 10"))
@click.option("--limit", default=50, show_default=True, help="The highest number to list.")
@json_option
def list_(limit: int, as_json: bool) -> None:
    """List drills and restores, newest first."""
    restores = service.list_restores(limit=limit)
    if as_json:
        click.echo(json_text({"restores": [restore_row(restore) for restore in restores]}))
        return
    print_table(
        ("Id", "Kind", "Status", "Created", "Backup", "Into"),
        list(map(_cells, restores)),
        nothing="There are no drills or restores.",
    )


@group.command("show")
@click.argument("restore_id", shell_complete=restore_ids, metavar="ID")
@json_option
def show(restore_id: str, as_json: bool) -> None:
    """Show the details of a drill or a restore."""
    restore = service.get_restore(restore_id)
    if as_json:
        click.echo(json_text(restore_details(restore)))
        return
    for key, value in restore_row(restore).items():
        if value not in ("", None) and key not in ("error", "result", "canBeUndone"):
            click.echo(f"{key + ':':<15} {value}")
    if restore.error_message:
        click.echo(_error_of(restore).in_words())
    if restore.is_completed:
        click.echo(f"{'result:':<15} {outcome_text(restore.result)}")
        print_remarks(restore.result)
    if restore.can_be_undone:
        click.echo(f"To undo it: flask restore undo {restore.id}")


@group.command("undo", epilog=examples("flask restore undo"))
@click.argument("restore_id", shell_complete=restore_ids, metavar="[ID]", required=False)
@_yes
def undo(restore_id: str | None, yes: bool) -> None:
    """Bring back the database that a restore replaced; the other one is kept.

    Without an id, it is the newest replace that can be undone.
    """
    restore = service.get_restore(restore_id) if restore_id else service.find_undoable()
    if not yes:
        replaced = f"{restore.database}, replaced {moment_short(restore.created_at)} UTC"
        click.confirm(f"Bring the old {replaced}, back? Its sessions are ended.", abort=True)
    with sample_in_use():
        aside = service.undo_restore(restore.id, by=own_user())
    click.echo(
        f"{restore.database} is the old database again; the restored one is kept as {aside}."
    )
    click.echo(f"To drop that one: flask restore drop {restore.id}")


@group.command("drop")
@click.argument("restore_id", shell_complete=restore_ids, metavar="ID")
@_yes
def drop(restore_id: str, yes: bool) -> None:
    """Drop the database that a replace or its undo has set aside, for good."""
    restore = service.get_restore(restore_id)
    if restore.has_kept and not yes:
        click.confirm(f"Drop database {restore.kept} for good?", abort=True)
    with sample_in_use():
        service.drop_kept(restore_id, by=own_user())
    click.echo(f"{restore.kept} has been dropped.")


@group.command("cancel")
@click.argument("restore_id", shell_complete=restore_ids, metavar="ID")
def cancel(restore_id: str) -> None:
    """Cancel a drill or a restore that is queued or running; it becomes FAILED."""
    service.cancel_restore(restore_id, by=own_user())
    restore = service.wait_for_restore(restore_id, CANCEL_PATIENCE)
    if restore.is_completed:
        raise Conflict("this restore was completed before it could be cancelled")
    if restore.is_pending:
        raise Conflict(
            "this restore has not ended yet",
            detail="It was asked to end; its process has not reacted yet.",
            hint=f"flask restore show {restore_id} shows when it has ended.",
        )
    click.echo("The restore has been cancelled.")


def _cells(restore: Restore) -> tuple[str, ...]:
    target = "" if restore.kind is Kind.DRILL else f"into {restore.database}"
    when, status = moment_short(restore.created_at), restore.status.value
    return restore.id, restore.kind.value, status, when, restore.filename, target


def _run(request: RestoreRequest, *, quiet: bool = False) -> Restore:
    with ending_by_signals():
        try_to_reconcile()
        with progress_shown(quiet=quiet) as callbacks:
            restore = service.create_restore(request, **callbacks)
        if not restore.is_completed:
            raise _error_of(restore)
    return restore


def _error_of(restore: Restore) -> AppError:
    """The error of a restore that was not completed."""
    if restore.is_pending:
        return Conflict(
            "another process is running this restore",
            hint=f"flask restore show {restore.id} shows its progress.",
        )
    message = restore.error_message
    proof = proof_of(restore)
    if proof is not None and not proof.is_failed and not proof.is_passed:
        message = f"a drill is not possible here, which says nothing about the backup: {message}"
    return AppError(message, detail=restore.error_detail, hint=restore.error_hint)
