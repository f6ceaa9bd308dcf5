"""flask backup drill and restore, and flask restore, which looks after both."""

import json
from typing import Any

import click

from app.cli.groups import CatalogueCommand, Group, ending_by_signals, for_one_database
from app.cli.progress import print_asserted, progress_shown
from app.config import CANCEL_PATIENCE
from app.errors import AppError, Conflict
from app.formatting import moment_short, outcome_text, printable
from app.host import own_user
from app.models import Kind, Restore, Trigger
from app.schemas.jobs import restore_details, restore_row
from app.services.backups.good import get_newest_good
from app.services.databases.configured import database_in_use
from app.services.proofs.records import proof_of
from app.services.recovery import try_to_reconcile
from app.services.restores import service
from app.services.restores.tables import choose_tables

group = Group("restore", help="Look after drills and restores; flask backup restore makes them.")

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_DANGER = (
    "What is hidden in the dump runs with all rights of role {}: it can read and write"
    " the server's files and start programs there."
)

_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("drill", cls=CatalogueCommand)
@click.argument("name", required=False)
@click.option("--latest", is_flag=True, help="Drill the newest good backup.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only; good for cron.")
@for_one_database
def drill(name: str | None, latest: bool, quiet: bool) -> None:
    """Prove a backup: restore it into a scratch database, compare, and drop that.

    Exits with 0 only if it was restored without a difference.
    """
    if latest == bool(name):
        raise click.UsageError("Name a backup, or ask for --latest.")
    with database_in_use():
        done = _restored(name or get_newest_good().filename, Kind.DRILL, quiet=quiet)
    if not quiet:
        click.echo(f"Restored {done.filename} in {_outcome(done)}.")
        _print_remarks(done.result)


@click.command("restore", cls=CatalogueCommand)
@click.argument("name")
@click.option("--into", default="", metavar="NEW", help="The new database; a name is proposed.")
@click.option(
    "--tables",
    "wanted",
    multiple=True,
    metavar="SCHEMA.TABLE",
    help="Only these, into a new database; schema.* for all of one. Can be repeated.",
)
@click.option("--replace", is_flag=True, help="Replace the living database, which is kept.")
@click.option(
    "--in-place",
    is_flag=True,
    help="Load it over the living database, where no other can be made.",
)
@click.option(
    "--as-superuser",
    is_flag=True,
    help="Let what is hidden in the dump run with a superuser's rights.",
)
@_yes
@for_one_database
def restore_(
    name: str,
    *,
    into: str,
    wanted: tuple[str, ...],
    replace: bool,
    in_place: bool,
    as_superuser: bool,
    yes: bool,
) -> None:
    """Restore a backup into a new database, or in place of the living one.

    What it will do is told first, and what is known not to work refused. A
    replace backs up the living database first, keeps it under another name,
    and can be undone: flask restore undo. In place backs it up too, and is all
    or nothing; but what was made since the backup stays, and there is no undo.
    flask backup contents lists the tables that can be restored by themselves.
    """
    if replace and in_place:
        raise click.UsageError("Choose one of --replace and --in-place.")
    kind = Kind.REPLACE if replace else Kind.IN_PLACE if in_place else Kind.BESIDE
    tables = choose_tables(name, wanted)
    with database_in_use():
        told = service.tell_before(name, kind, into, tables)
        _print_before(name, kind, told)
        if kind is not Kind.BESIDE and not yes:
            typed = click.prompt("Type the name of the database to replace it", err=True)
            service.refuse_unconfirmed(name, typed)
        done = _restored(name, kind, into=into, tables=tables, as_superuser=as_superuser)
    if kind is Kind.BESIDE:
        click.echo(f"{done.database} (restored in {_outcome(done)})")
    elif kind is Kind.IN_PLACE:
        click.echo(f"{name} was loaded over {done.database} in {_outcome(done)},")
        click.echo("as counted right after: clients may have written since.")
        click.echo(f"What it was before is in {done.safety_backup}.")
    else:
        click.echo(f"{done.database} is that of {name} (restored in {_outcome(done)}).")
        click.echo(f"The old one is kept as {done.kept} until {_kept_until(done)}.")
        click.echo(f"To undo it: flask restore undo {done.id}")
    _print_remarks(done.result)


@group.command("list")
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@_json
def list_(limit: int, as_json: bool) -> None:
    """List drills and restores, newest first."""
    found = service.list_restores(limit=limit)
    if as_json:
        click.echo(_as_json({"restores": [restore_row(each) for each in found]}))
        return
    for each in found:
        when = moment_short(each.created_at)
        target = "" if each.kind is Kind.DRILL else f"  into {each.database}"
        click.echo(
            f"{each.id}  {each.kind.value:<8}  {each.status.value:<9}  {when}"
            f"  {each.filename}{target}"
        )


@group.command("show")
@click.argument("restore_id", metavar="ID")
@_json
def show(restore_id: str, as_json: bool) -> None:
    """Show everything known of a drill or a restore."""
    restore = service.get_restore(restore_id)
    if as_json:
        click.echo(_as_json(restore_details(restore)))
        return
    for key, value in restore_row(restore).items():
        if value not in ("", None) and key not in ("error", "result", "canBeUndone"):
            click.echo(f"{key + ':':<15} {value}")
    if restore.error_message:
        click.echo(_error_of(restore).in_words())
    if restore.is_completed:
        click.echo(f"{'result:':<15} {outcome_text(restore.result)}")
        _print_remarks(restore.result)
    if restore.can_be_undone:
        click.echo(f"To undo it: flask restore undo {restore.id}")


@group.command("undo")
@click.argument("restore_id", metavar="ID")
@_yes
def undo(restore_id: str, yes: bool) -> None:
    """Bring back the database that a restore has replaced; the other one is kept."""
    restore = service.get_restore(restore_id)
    if not yes:
        click.confirm(
            f"Make {restore.database} what it was before? Its sessions are ended.", abort=True
        )
    with database_in_use():
        aside = service.undo_restore(restore_id, by=own_user())
    click.echo(f"{restore.database} is what it was before; the other one is kept as {aside}.")
    click.echo(f"To drop that one: flask restore drop {restore_id}")


@group.command("drop")
@click.argument("restore_id", metavar="ID")
@_yes
def drop(restore_id: str, yes: bool) -> None:
    """Drop the database that a replace, or its undo, has set aside: it is gone for good."""
    restore = service.get_restore(restore_id)
    if restore.has_kept and not yes:
        click.confirm(f"Drop database {restore.kept} for good?", abort=True)
    with database_in_use():
        service.drop_kept(restore_id, by=own_user())
    click.echo(f"{restore.kept} has been dropped.")


@group.command("cancel")
@click.argument("restore_id", metavar="ID")
def cancel(restore_id: str) -> None:
    """End a drill or a restore that waits or runs; it will be FAILED as cancelled."""
    service.cancel_restore(restore_id, by=own_user())
    restore = service.wait_for_restore(restore_id, CANCEL_PATIENCE)
    if restore.is_completed:
        raise Conflict("this restore was completed before it could be cancelled")
    if restore.is_pending:
        raise Conflict(
            "this restore has not ended yet",
            detail="It was asked to; its runner has not heard it.",
            hint=f"flask restore show {restore_id} tells when it has.",
        )
    click.echo("The restore has been cancelled.")


def _restored(filename: str, kind: Kind, *, quiet: bool = False, **wanted: Any) -> Restore:
    with ending_by_signals():
        try_to_reconcile()
        with progress_shown(quiet=quiet) as callbacks:
            done = service.create_restore(
                filename, kind, trigger=Trigger.CLI, **wanted, **callbacks
            )
        if not done.is_completed:
            raise _error_of(done)
    return done


def _print_before(filename: str, kind: Kind, told: dict[str, Any]) -> None:
    """What will happen, on standard error: standard output has only the result."""
    proof = told["proof"]
    proven = f"{proof.word} ({moment_short(proof.proved_at)} UTC)" if proof else "nothing"
    version = told["dumpedVersion"] or "of an unknown version"
    lines = [
        f"{filename}: {told['tables']:,} tables, {told['rows']:,} rows of PostgreSQL {version}.",
        f"Proven of it: {proven}.",
    ]
    if kind is Kind.BESIDE:
        lines.append(
            f"It is restored into a new database {told['database']}"
            f" on PostgreSQL {told['serverVersion']}."
        )
    elif kind is Kind.IN_PLACE:
        lines += [
            f"It is loaded over database {told['database']}: all of it or nothing, no undo.",
            f"Connected to that now: {told['sessions']} sessions. They wait meanwhile.",
            *([_DANGER.format(told["powers"])] if told["powers"] else []),
            *(f"Not in the backup, and stays: {each}." for each in told["stays"]),
            *(f"Not in the backup, and goes: {each}." for each in told["goes"]),
        ]
    else:
        lines += [
            f"It takes the place of database {told['database']}, which is kept.",
            f"Connected to that now: {told['sessions']} sessions. They will be ended.",
        ]
    lines += [f"{each[:1].upper()}{each[1:]}." for each in told["remarks"]]
    if told["missingRoles"]:
        lines.append("To create the roles that are missing:")
        lines += [f"  {each}" for each in told["missingRolesSql"]]
    click.echo("\n".join(map(printable, lines)), err=True)


def _outcome(done: Restore) -> str:
    seconds = f"{done.result['seconds']:.1f} s: " if "seconds" in done.result else ""
    return seconds + outcome_text(done.result)


def _kept_until(done: Restore) -> str:
    return f"{moment_short(done.kept_until)} UTC" if done.kept_until else "it is dropped"


def _error_of(restore: Restore) -> AppError:
    """Why a restore has not been completed, as it is told."""
    if restore.is_pending:
        return Conflict(
            "somebody else runs this restore",
            hint=f"flask restore show {restore.id} tells how it goes.",
        )
    message = restore.error_message
    proof = proof_of(restore)
    if proof is not None and not proof.is_failed and not proof.is_passed:
        message = f"a drill is not possible here, which says nothing about the backup: {message}"
    return AppError(message, detail=restore.error_detail, hint=restore.error_hint)


def _print_remarks(result: dict[str, Any]) -> None:
    """What was found and should be looked at, one line each."""
    for each in result.get("differences", []):
        click.echo(f"  different: {each}")
    print_asserted(result)
    if "server" in result:
        click.echo(f"  on {result['server']}")
    remarks = {
        "missingRoles": "role that is not there",
        "privileged": "made by the admin's connection",
        "definitions": "made without its rows",
        "leftOut": "left out",
        "stays": "not in the backup, and still there",
        "goes": "not in the backup, and gone",
        "notCompared": "not compared",
    }
    for key, told in remarks.items():
        for each in result.get(key, []):
            click.echo(printable(f"  {told}: {each}"))


def _as_json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)
